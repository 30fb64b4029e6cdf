"""Reading a config as the tools need it: found by name, overridden, moved to another data root.

One way for mmdet, mmpretrain and mmseg, told apart by the config's ``default_scope``.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import get_installed_path, is_installed

from mmltm import mim
from mmltm.apis.config_keys import check_keys, follow_variables
from mmltm.apis.config_types import check_types
from mmltm.apis.data_root import SPLITS, data_roots, relocate
from mmltm.errors import UserError, summary

SCOPES = ('mmdet', 'mmpretrain', 'mmseg')
_INSTALL_MMSEG = ('mmseg is not installed: pip install onedl-mmsegmentation==1.4.2 (beside packages of upstream: '
                  'mmsegmentation)')


def load_config(name: str, options: dict | None = None, data_root: str | None = None, work_dir: str | None = None,
                launcher: str = 'none', needs: Sequence[str] = ()) -> Config:
    """Reads a config and applies the options of the command line, ``--cfg-options`` (``options``) first.

    ``name`` is a path, or ``mmltm::...``, or ``mmdet::...`` and the like. ``work_dir`` is by default the
    config's own, else ``work_dirs/<name>``; ``needs`` are settings that the caller cannot do without.

    Raises:
        UserError: The config does not exist, cannot be read, is for none of mmdet, mmpretrain and mmseg, lacks what is
            needed, or has a part of another type than it must be; or an option sets what nothing reads.
    """
    path = find_config(name)
    try:
        cfg = Config.fromfile(path)
        check_types(str(path), cfg)
        roots = data_roots(cfg)
        check_keys(cfg, options or {})
        cfg.merge_from_dict(follow_variables(cfg, options or {}))
        check_types(str(path), cfg)
    except UserError:
        raise
    except Exception as error:  # a config is a program: anything may be raised
        if isinstance(error, ModuleNotFoundError) and 'mmsegmentation is not installed' in str(error):
            raise UserError(f'config {path}: {_INSTALL_MMSEG}') from error
        raise UserError(f'cannot read config {path}: {summary(error)}') from error
    if cfg.get('default_scope') not in SCOPES:
        raise UserError(f'config {path} has default_scope {cfg.get("default_scope")!r}; '
                        f'expected one of {", ".join(SCOPES)}')
    if cfg.default_scope == 'mmseg' and not is_installed('mmseg'):
        raise UserError(f'config {path}: {_INSTALL_MMSEG}')
    lacking = [key for key in needs if cfg.get(key) is None]
    if lacking:
        raise UserError(f'config {path} has no {", ".join(lacking)}')
    if data_root:
        relocate(cfg, data_root, roots | data_roots(cfg))
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / path.stem)
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if loader and cfg.default_scope == 'mmpretrain':  # what mmpretrain leaves to its tools
            loader.setdefault('collate_fn', dict(type='default_collate'))
            loader.setdefault('persistent_workers', True)
        if loader and not loader.get('num_workers'):  # a contradiction would end in a traceback
            loader.persistent_workers = False
    return cfg


def find_config(name: str) -> Path:
    """The file of a config named by its path or as ``package::path``; an error suggests similar names."""
    package, separator, relative = name.partition('::')
    if separator and not is_installed(package):
        reason = _INSTALL_MMSEG if package == 'mmseg' else f'no package {package} is installed'
        raise UserError(f'config {name}: {reason}')
    if separator:
        folders = [(mim.FOLDER if package == 'mmltm' else Path(get_installed_path(package)) / '.mim') / 'configs']
        path = folders[0] / relative
    else:
        folders = [Path('configs'), mim.FOLDER / 'configs']
        path = Path(name)
    if path.is_file():
        return path
    files = {file.name: f'{package}::{file.relative_to(folder)}' if separator else str(file)
             for folder in reversed(folders) for file in sorted(folder.rglob('*.py'), reverse=True)}
    similar = [files[file] for file in difflib.get_close_matches(path.stem + '.py', files, n=3)]
    question = f'; did you mean {" or ".join(similar)}?' if similar else ''
    raise UserError(f'config {name} does not exist{question}')
