"""Mask R-CNN, MobileViT-S with FPN, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_mobilevit_s_1x.py [--data-root DIR]
    bash tools/dist_train.sh configs/mask_rcnn_mobilevit_s_1x.py 8

Learning rate 0.001 for a total batch of 16 (8 GPUs x 2 images). For another total batch add `--auto-scale-lr`.
Starts from ImageNet weights; from scratch: --cfg-options model.backbone.pretrained=None
"""

_base_ = './_base_/det_mask_rcnn.py'

zoo = 'https://mmassets.onedl.ai/mmclassification/v0/mobilevit/'

model = dict(
    # What the ImageNet weights were trained on: BGR from 0 to 1.
    data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=False),
    backbone=dict(
        _delete_=True,
        type='mmltm.LTMMobileViT',
        arch='small',
        out_indices=(1, 2, 3, 4),
        pretrained=zoo + 'mobilevit-small_3rdparty_in1k_20221018-cb4f741c.pth'),
    neck=dict(in_channels=[64, 96, 128, 640]))
