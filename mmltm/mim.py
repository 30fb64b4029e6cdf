"""The configs and tools that come with the package, and ``mmltm::NAME`` for one of them as ``_base_`` of a config.

A wheel has them in ``mmltm/.mim``, where OpenMMLab's packages have theirs; a checkout has them beside the package.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parent
#: The folder that holds ``configs`` and ``tools``.
FOLDER = _PACKAGE / '.mim' if (_PACKAGE / '.mim').is_dir() else _PACKAGE.parent
_READER = 'mmengine.config.config'


def _extend(module: ModuleType) -> None:
    """Have mmengine's ``Config`` find ``mmltm::NAME`` and ``mmseg::NAME``; it knows a fixed list of packages only."""
    config = module.Config
    find = config._get_cfg_path

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        package, _, name = cfg_path.partition('::')
        if package == 'mmseg' and (spec := find_spec('mmseg')) and spec.origin:  # mmengine asks for mmsegmentation
            return str(Path(spec.origin).parent / '.mim' / 'configs' / name), 'mmseg'
        # No scope: it would have types looked up in mmltm alone, while our configs are of mmdet's or mmpretrain's.
        return (str(FOLDER / 'configs' / name), None) if package == 'mmltm' else find(cfg_path, filename)

    config._get_cfg_path = staticmethod(get_cfg_path)


class _ConfigFinder:
    """Extends mmengine's reader of configs when it is imported, so that importing mmltm need not import it."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None) -> ModuleSpec | None:
        if fullname != _READER:
            return None
        sys.meta_path.remove(cls)
        spec = find_spec(fullname)
        assert spec is not None and spec.loader is not None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _extend(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Have mmengine find ``mmltm::NAME``, now or when it is imported. To be called once."""
    if _READER in sys.modules:
        _extend(sys.modules[_READER])
    else:
        sys.meta_path.insert(0, _ConfigFinder)
