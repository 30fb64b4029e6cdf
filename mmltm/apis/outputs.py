"""What a test leaves behind on request: predictions in files, and pictures."""

import os.path as osp

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.fileio import dump, load

from mmltm.errors import UserError

# Per scope: the metric that dumps predictions, and the hook that draws them.
_DUMPS = dict(mmdet='DumpDetResults', mmpretrain='DumpResults')
_HOOKS = dict(mmdet='DetVisualizationHook', mmpretrain='VisualizationHook')


def set_out(cfg: Config, path: str) -> None:
    """Lets the test dump its predictions to ``path``, in place.

    COCO metrics keep their result files beside it, for ``foo.pkl`` ``foo.bbox.json`` and ``foo.segm.json``; a second
    COCO metric writes ``foo.1.bbox.json`` and so on.
    """
    stem, suffix = osp.splitext(path)
    if suffix not in ('.pkl', '.pickle'):
        raise UserError(f'--out {path} must end in .pkl')
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
    coco_metrics = [metric for metric in metrics if str(metric.type).endswith('CocoMetric')]
    for i, metric in enumerate(coco_metrics):
        metric.outfile_prefix = f'{stem}.{i}' if i else stem
    cfg.test_evaluator = [*metrics, dict(type=_DUMPS[cfg.default_scope], out_file_path=path)]


def finish_out(cfg: Config) -> None:
    """Takes the boxes out of the mask results that :func:`set_out` asked for, as mmdet does to score them."""
    # pycocotools would otherwise sort masks into small, medium and large by the area of their boxes.
    for metric in cfg.test_evaluator if is_main_process() else ():
        path = f'{metric.get("outfile_prefix")}.segm.json'
        if osp.isfile(path):
            results = load(path)
            for result in results:
                result.pop('bbox', None)
            dump(results, path)


def set_show(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    """Lets the test draw predictions, and ground truth beside them, on every image, in place.

    In a window for ``wait_time`` seconds each with ``show``, and as files in ``show_dir`` unless empty or None.
    """
    cfg.setdefault('default_hooks', {})
    cfg.default_hooks.setdefault('visualization', dict(type=_HOOKS[cfg.default_scope]))
    hook = cfg.default_hooks.visualization
    hook.update(show=show, wait_time=wait_time)
    # mmdet puts relative folders below work_dir/timestamp, where nobody looks for them.
    folder = osp.abspath(osp.expanduser(show_dir)) if show_dir else None
    if cfg.default_scope == 'mmdet':
        hook.update(draw=True, test_out_dir=folder)
    else:
        hook.update(enable=True, interval=1, out_dir=folder)
