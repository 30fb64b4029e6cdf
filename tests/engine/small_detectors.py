"""Detectors of the repository's configs at small size, and made-up scenes to train them on."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

BOXES = torch.tensor([[0., 0, 10, 20], [5, 5, 15, 15], [0, 0, 30, 10]])
LABELS = torch.tensor([2, 0, 2])
#: Of the categories, by the areas of boxes and of masks.
SHARES = [100 / 600, 0, 500 / 600]
MASK_SHARES = [0.25, 0, 0.75]

SSD_CHANNELS = (32, 32, 16, 16, 16, 8)
#: Config, and what makes it small.
DETECTORS = dict(
    mask_rcnn=('mask_rcnn_ltm_effvit_b1_1x', {
        'backbone.arch': 'b0', 'neck.in_channels': [16, 32, 64, 128], 'roi_head.bbox_head.fc_out_channels': 16,
        'roi_head.bbox_head.num_classes': 3, 'roi_head.mask_head.num_classes': 3,
        'train_cfg.rpn_proposal.max_per_img': 20, 'train_cfg.rcnn.sampler.num': 16}),
    ssdlite=('ssdlite_ltm_mobilevit_xs_200e', {
        'backbone.arch': 'xx_small', 'backbone.pretrained': None, 'neck.in_channels': (64, 80),
        'neck.out_channels': SSD_CHANNELS, 'bbox_head.in_channels': SSD_CHANNELS, 'bbox_head.num_classes': 3}),
)


def detector(name, root, merger=(), **backbone):
    """Model config of a detector for three categories.

    Args:
        name (str): A key of :data:`DETECTORS`.
        root (Path): The repository.
        merger (dict): What the merger is told, besides its type.
        **backbone: Other arguments of the backbone.
    """
    config, small = DETECTORS[name]
    cfg = Config.fromfile(root / 'configs' / f'{config}.py')
    cfg.merge_from_dict({f'model.{key}': value for key, value in small.items()})
    del cfg.model.backbone['ratio']
    cfg.model.backbone.update(merger={'type': 'LTM', 'ratio': 0.7, 'num_classes': 3, **dict(merger)}, **backbone)
    return cfg.model


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


class Scenes(Dataset):
    """An image with three objects, one with none.

    Args:
        masks (bool): Give the objects masks.
    """
    metainfo = dict(classes=('a', 'b', 'c'))

    def __init__(self, masks=False):
        self.masks = masks

    def __len__(self):
        return 2

    def __getitem__(self, index):
        image = 255 * torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(index))
        masks = dict(masks=BitmapMasks([], 64, 64) if index else bitmaps()) if self.masks else {}
        sample = detection(BOXES[:0], LABELS[:0], crowd=False, **masks) if index else detection(**masks)
        return dict(inputs=image, data_samples=sample)
