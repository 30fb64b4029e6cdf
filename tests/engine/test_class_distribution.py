"""Class distributions from the annotations of mmpretrain and mmdet, up to the masks of a detector in
training."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from small_runs import runner
from torch.utils.data import Dataset

from mmltm.utils.targets import class_distribution

BOXES = torch.tensor([[0., 0, 10, 20], [5, 5, 15, 15], [0, 0, 30, 10]])
LABELS = torch.tensor([2, 0, 2])
SHARES = [100 / 600, 0, 500 / 600]


def detection(bboxes=BOXES, labels=LABELS, crowd=True, **kwargs):
    """A sample with 200, 100 and 300 pixels of its objects, and a crowd of category 1."""
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), batch_input_shape=(64, 64), pad_shape=(64, 64)))
    sample.gt_instances = InstanceData(bboxes=bboxes, labels=labels, **kwargs)
    ignored = BOXES[:1] if crowd else BOXES[:0]
    sample.ignored_instances = InstanceData(bboxes=ignored, labels=torch.ones(len(ignored), dtype=torch.long))
    return sample


def bitmaps():
    masks = np.zeros((3, 64, 64), np.uint8)
    for mask, pixels in zip(masks, (30, 10, 0)):
        mask[0, :pixels] = 1
    return BitmapMasks(masks, 64, 64)


def polygons():
    return PolygonMasks([[np.array([0., 0, w, 0, w, 1, 0, 1])] for w in (30, 10, 0)], 64, 64)


@pytest.mark.parametrize('samples, expected', [
    ([DataSample().set_gt_label(2), DataSample().set_gt_label(0)], [[0, 0, 1], [1, 0, 0]]),
    ([DataSample().set_gt_label([0, 2]), DataSample().set_gt_label([])], [[0.5, 0, 0.5], [0, 0, 0]]),
    ([DataSample().set_gt_label(1).set_gt_score(torch.tensor([0.3, 0.7, 0]))], [[0.3, 0.7, 0]]),
    ([DataSample().set_gt_score(torch.tensor([1., 1, 0])), DataSample().set_gt_score(torch.zeros(3))],
     [[0.5, 0.5, 0], [0, 0, 0]]),
    ([detection()], [SHARES]),
    ([detection(HorizontalBoxes(BOXES), crowd=False)], [SHARES]),
    ([detection(masks=bitmaps())], [[0.25, 0, 0.75]]),
    ([detection(masks=polygons())], [[0.25, 0, 0.75]]),
    ([detection(), detection(BOXES[:0], LABELS[:0]), detection(BOXES[:1] * 0, LABELS[:1])],
     [SHARES, [0] * 3, [0] * 3]),
    ([detection(BOXES[:0], LABELS[:0], masks=BitmapMasks([], 64, 64))], [[0, 0, 0]]),
])
def test_class_distribution(samples, expected):
    torch.testing.assert_close(class_distribution(samples, 3), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize('samples, message', [
    ([DataSample().set_gt_label(3)], 'class index 3 is outside the 3 classes'),
    ([detection(labels=-LABELS)], 'class index -2 is outside the 3 classes'),
    ([DataSample().set_gt_score(torch.ones(4))], 'gt_score over 4 classes, but statistics are kept of 3'),
    ([DataSample()], 'no gt_score, gt_label or gt_instances in a DataSample'),
    ([], 'without data samples'), (None, 'without data samples')])
def test_bad_annotations_are_named(samples, message):
    with pytest.raises(ValueError, match=message):
        class_distribution(samples, 3)


class Scenes(Dataset):
    """An image with three objects, one with none."""
    metainfo = dict(classes=('a', 'b', 'c'))

    def __len__(self):
        return 2

    def __getitem__(self, index):
        image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(index))
        sample = detection() if index == 0 else detection(BOXES[:0], LABELS[:0], crowd=False)
        return dict(inputs=image, data_samples=sample)


def test_a_detector_trains_with_the_shares_of_its_objects(tmp_path):
    model = dict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[0.5] * 3, std=[0.5] * 3),
        backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', out_indices=(3, 4),
                      merger=dict(type='LTM', ratio=0.7, num_classes=3)),
        neck=dict(type='FPN', in_channels=[64, 128], out_channels=16, num_outs=2),
        bbox_head=dict(
            type='RetinaHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
            anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[16, 32])),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4), allowed_border=-1,
            pos_weight=-1))
    run = runner(tmp_path, model=model, hooks=[dict(type='mmltm.IBStatisticsHook')], epochs=3, batch_size=2,
                 data=Scenes(), default_scope='mmdet', collate='pseudo_collate')
    seen = []
    layer = run.model.get_submodule('backbone.stages.2.mergers.1')
    layer.register_forward_hook(lambda mask, args, output: seen.append(mask.targets))
    run.train()
    assert seen[0].classes.tolist() == [0, 2]
    torch.testing.assert_close(seen[0].shares.sum(0), torch.tensor([SHARES[0], SHARES[2]]))
    assert seen[0].shares.sum(1).bool().tolist().count(False) == 1
    torch.testing.assert_close(layer.stats.counts, torch.tensor(SHARES))
    assert layer.step.isfinite().all()
