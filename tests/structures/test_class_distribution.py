"""Class distributions from the annotations of mmpretrain, mmdet and mmseg."""

import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import BaseDataElement, PixelData
from mmpretrain.structures import DataSample

from mmltm.structures.class_distribution import class_distribution, label_maps, object_boxes
from tests.engine.small_detectors import BOXES, LABELS, SHARES, bitmaps, detection, polygons


def segmented(*rows):
    """A sample as mmseg has them, with a label map."""
    return BaseDataElement(gt_sem_seg=PixelData(data=torch.tensor([rows])))


@pytest.mark.parametrize('samples, expected', [
    ([segmented([0, 2, 2], [2, 255, 255]), segmented([255] * 3, [255] * 3)], [[0.25, 0, 0.75], [0, 0, 0]]),
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
    ([DataSample()], 'no gt_score, gt_label, gt_instances or gt_sem_seg in a DataSample'),
    ([segmented([0, 3])], 'class index 3 is outside the 3 classes'),
    ([], 'without data samples'), (None, 'without data samples')])
def test_bad_annotations_are_named(samples, message):
    with pytest.raises(ValueError, match=message):
        class_distribution(samples, 3)


def test_boxes_are_fractions_of_the_padded_input():
    padded = detection(HorizontalBoxes(BOXES))
    padded.set_metainfo(dict(batch_input_shape=(64, 128)))
    corners, labels, images = object_boxes([padded, detection(BOXES[:0], LABELS[:0]), detection(BOXES[:1], LABELS[:1])])
    expected = torch.cat([BOXES / torch.tensor([128, 64, 128, 64]), BOXES[:1] / 64])
    torch.testing.assert_close(corners, expected)
    assert labels.tolist() == [2, 0, 2, 2] and images.tolist() == [0, 0, 0, 2]
    assert object_boxes([DataSample().set_gt_label(1)]) is None


def test_label_maps_know_what_is_ignored():
    maps = label_maps([segmented([0, 255], [2, 1]), segmented([255, 255], [1, 1])])
    assert maps.tolist() == [[[0, -1], [2, 1]], [[-1, -1], [1, 1]]]
    assert label_maps([DataSample().set_gt_label(1)]) is None and label_maps([]) is None
