"""What a test leaves behind on request: predictions in files, and pictures."""

import os
import os.path as osp
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.fileio import dump, load
from torch import Tensor

from mmltm.engine.whole_files import check_writable
from mmltm.errors import UserError

# Per scope: the metric that dumps predictions, and the hook that draws them.
_DUMPS = dict(mmdet='DumpDetResults', mmpretrain='DumpResults', mmseg='mmltm.DumpLabelMaps')
_HOOKS = dict(mmdet='DetVisualizationHook', mmpretrain='VisualizationHook', mmseg='SegVisualizationHook')


def set_out(cfg: Config, path: str) -> None:
    """Lets the test dump its predictions to ``path``, a pickle or JSON, in place.

    COCO metrics keep their result files beside it, for ``foo.pkl`` ``foo.bbox.json`` and ``foo.segm.json``; a second
    COCO metric writes ``foo.1.bbox.json`` and so on.
    """
    stem, suffix = osp.splitext(path)
    if suffix not in ('.pkl', '.pickle', '.json'):
        raise UserError(f'--out {path} must end in .json or .pkl')
    check_writable('the folder of --out,', osp.dirname(path) or '.', 'choose another one')
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
    coco_metrics = [metric for metric in metrics if str(metric.type).endswith('CocoMetric')]
    for i, metric in enumerate(coco_metrics):
        metric.outfile_prefix = f'{stem}.{i}' if i else stem
    dumped = f'{path}.pkl' if suffix == '.json' else path
    cfg.test_evaluator = [*metrics, dict(type=_DUMPS[cfg.default_scope], out_file_path=dumped)]


def finish_out(cfg: Config) -> None:
    """Finishes the files that :func:`set_out` asked for: JSON, and mask results without boxes, as mmdet scores them."""
    if not is_main_process():
        return
    # pycocotools would otherwise sort masks into small, medium and large by the area of their boxes.
    for metric in cfg.test_evaluator:
        path = f'{metric.get("outfile_prefix")}.segm.json'
        if osp.isfile(path):
            results = load(path)
            for result in results:
                result.pop('bbox', None)
            dump(results, path)
    dumped = cfg.test_evaluator[-1].out_file_path
    if dumped.endswith('.json.pkl'):
        dump(_plain(load(dumped)), dumped.removesuffix('.pkl'))
        os.remove(dumped)


def _plain(value: Any) -> Any:
    """The same as JSON can hold it: tensors as lists, and the bytes of run lengths as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, Tensor) else value.decode() if isinstance(value, bytes) else value


def set_show(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Lets the test draw predictions, and ground truth beside them, on every image, in place.

    In a window for ``wait_time`` seconds each with ``show``, and as files in ``show_dir``, in sub-folders as the images
    are, unless empty or None.
    """
    cfg.default_hooks = cfg.get('default_hooks') or {}
    hook = cfg.default_hooks.get('visualization') or ConfigDict(type=_HOOKS[cfg.default_scope])
    cfg.default_hooks.visualization = hook
    options = dict(show=show, wait_time=wait_time)
    folder = osp.abspath(osp.expanduser(show_dir)) if show_dir else None
    if folder:
        check_writable('--show-dir', folder, 'choose another one')
    if hook.type in _HOOKS.values():
        if cfg.default_scope == 'mmdet':
            options['pred_score_thr'] = hook.get('score_thr', 0.3)
        cfg.default_hooks.visualization = dict(type='mmltm.PicturesHook', folder=folder, **options)
    elif cfg.default_scope == 'mmdet':  # a hook of one's own, with the arguments of mmdet's, mmseg's or mmpretrain's
        hook.update(draw=True, test_out_dir=folder, **options)
    elif cfg.default_scope == 'mmseg':
        hook.update(draw=True, interval=1, **options)
    else:
        hook.update(enable=True, interval=1, out_dir=folder, **options)
