"""Test-time augmentation: each test image is seen flipped and in several sizes, and what is predicted is merged."""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from mmltm.apis.data_root import leaf_datasets
from mmltm.errors import UserError

_RESIZES = ('Resize', 'ResizeEdge', 'FixScaleResize')
# Views of one object overlap, as its proposals do.
_MERGE: dict[str, dict[str, Any]] = {
    'mmdet': dict(type='mmltm.InstanceTTAModel', tta_cfg=dict(
        nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
    'mmpretrain': dict(type='AverageClsScoreTTA'), 'mmseg': dict(type='SegTTAModel')}


def set_tta(cfg: Config, scales: Sequence[float]) -> None:
    """Wraps the model and the test pipelines of ``cfg`` for test-time augmentation, in place.

    By the config's own ``tta_model`` and ``tta_pipeline`` where it has them; else each view is flipped and not, and is
    resized by each of ``scales`` times the size of the test (1 if there are none).
    """
    if scales and cfg.get('tta_pipeline'):
        raise UserError(f'--tta with scales: {cfg.filename} has a tta_pipeline, which says its own')
    for key, dataset in leaf_datasets(cfg, ['test']):
        dataset.pipeline = copy.deepcopy(cfg.get('tta_pipeline')) or _augmented(key, dataset.pipeline, scales or (1., ))
    cfg.test_dataloader.collate_fn = dict(type='pseudo_collate')  # views are lists
    cfg.model = ConfigDict(**(cfg.get('tta_model') or _MERGE[cfg.default_scope]), module=cfg.model)


def _augmented(key: str, pipeline: Sequence[dict], scales: Sequence[float]) -> list[dict]:
    """A test pipeline with everything behind the loading of the image in views."""
    steps = [dict(step) for step in pipeline]
    kinds = [str(step['type']).rpartition('.')[2] for step in steps]
    resize = next((i for i, kind in enumerate(kinds) if kind in _RESIZES), None)
    if resize is None and tuple(scales) != (1., ):
        raise UserError(f'--tta {" ".join(map(str, scales))}: {key}.pipeline has none of {", ".join(_RESIZES)}')
    # From the resizing on, or all that is packed; images are flipped at the end, so that boxes are of the same side.
    begin = len(steps) - 1 if resize is None else resize
    views: list[list[dict]] = [[step] for step in steps[begin:]]
    if resize is not None:
        # The first view keeps its ground truth, which is drawn: the one nearest to the test's own.
        nearest_first = sorted(scales, key=lambda scale: abs(scale - 1))
        views[0] = [{**steps[resize], **_scaled(steps[resize], scale)} for scale in nearest_first]
    pack = {name: value for name, value in steps[-1].items() if name != 'meta_keys'}  # by default with the flip
    flips = [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)]
    return [*steps[:begin], dict(type='TestTimeAug', transforms=[*views[:-1], flips, [pack]])]


def _scaled(step: dict, scale: float) -> dict[str, Any]:
    """A resizing step's size times ``scale``, in whole pixels."""
    size = step.get('scale')
    if isinstance(size, (int, float)):
        return dict(scale=max(1, round(size * scale)))
    if isinstance(size, (list, tuple)):
        return dict(scale=tuple(max(1, round(side * scale)) for side in size))
    factor = step.get('scale_factor', 1.)
    return dict(scale_factor=tuple(f * scale for f in factor) if isinstance(factor, (list, tuple)) else factor * scale)
