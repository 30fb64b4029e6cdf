"""Mask R-CNN, EfficientViT-B1 with FPN, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_effvit_b1_1x.py [--data-root DIR]
    bash tools/dist_train.sh configs/mask_rcnn_effvit_b1_1x.py 8

Learning rate 0.001 for a total batch of 16 (8 GPUs x 2 images). For another total batch add `--auto-scale-lr`.
"""

_base_ = './_base_/det_mask_rcnn.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmltm.EfficientViT',
        arch='b1',
        out_indices=(1, 2, 3, 4),
        # An ImageNet classifier to start from, path or URL: ours, with or without masks, timm's or mit-han-lab's.
        # On the command line: --cfg-options model.backbone.pretrained=PATH
        pretrained=None,
        # Two images are too few to renew batch statistics that come with such weights.
        norm_eval=None),
    neck=dict(in_channels=[32, 64, 128, 256]))
