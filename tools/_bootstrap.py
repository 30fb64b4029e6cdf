"""What every tool imports first: it finds the package of its own checkout, and says in one line what is missing."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent

sys.path.remove(str(_HERE))  # where a tool has put it to find this file; tools/test.py shall hide no one's module
if (_HERE.parent / 'mmltm' / '__init__.py').is_file():
    sys.path.insert(0, str(_HERE.parent))
sys.path.append(str(_HERE / 'experiments'))  # whose harness knows the format of results
try:
    import mmengine  # noqa: F401

    import mmltm  # noqa: F401  (before mmdet, for its stand-in for mmcv's compiled operators)
except ModuleNotFoundError as error:
    sys.exit(f'error: {error}; install the package first: bash tools/quickstart.sh, or pip install -e ".[onedl]"')
