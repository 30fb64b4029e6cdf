"""Import hook: ``mmcv._ext`` is :mod:`mmltm.compat.ext` where no compiled one is installed.

``pip install`` builds mmcv in an isolated environment without PyTorch, hence without operators, and then
``mmcv.ops`` cannot be imported. The finder stands last in ``sys.meta_path``: Python asks it only after it has
looked for the extension itself, so a compiled one is used untouched.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path


class ExtFinder(MetaPathFinder):
    """Finds ``mmcv._ext`` and nothing else; used as a class, like importlib's own ``PathFinder``."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname == 'mmcv._ext':
            return spec_from_file_location(fullname, Path(__file__).with_name('ext.py'))
        return None


def install() -> None:
    """Let any later import of ``mmcv._ext`` succeed. Imports nothing itself; a second call does nothing."""
    if ExtFinder not in sys.meta_path:
        sys.meta_path.append(ExtFinder)
