"""What every tool imports first: it finds the package of its own checkout, and says in one line what is missing."""

import atexit
import gc
import os
import signal
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def _interrupted(*_):
    print('interrupted while starting: nothing has been written', file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)  # an exception would be turned into others by modules that are being imported


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)  # until mmltm.errors.run takes over
atexit.register(gc.freeze)  # Python would look through all objects once more before it ends, for seconds
sys.path.remove(str(_HERE))  # where a tool has put it to find this file; tools/test.py shall hide no one's module
if (_HERE.parent / 'mmltm' / '__init__.py').is_file():
    sys.path.insert(0, str(_HERE.parent))
sys.path.append(str(_HERE / 'experiments'))  # whose harness knows the format of results
# OpenCV reads up to 2**30 pixels, for which a file of a few kilobytes is enough; it looks when it is imported.
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', str(2**28))
try:
    import mmengine  # noqa: F401

    import mmltm  # noqa: F401  (before mmdet, for its stand-in for mmcv's compiled operators)
except ModuleNotFoundError as error:
    sys.exit(f'error: {error}; install the package first: bash tools/quickstart.sh, or pip install -e ".[onedl]"')
