"""Makes the helpers of these tests and the small runs of the engine's importable."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / 'engine')]
