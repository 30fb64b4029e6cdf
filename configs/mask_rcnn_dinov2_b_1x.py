"""Mask R-CNN, ViT-B of DINOv2 with ViTDet's simple feature pyramid, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_dinov2_b_1x.py [--data-root DIR] --amp
    bash tools/dist_train.sh configs/mask_rcnn_dinov2_b_1x.py 8 --amp

Learning rate 0.0001 for a total batch of 16 (8 GPUs x 2 images). For another total batch add `--auto-scale-lr`.
Starts from DINOv2's weights; from scratch: --cfg-options model.backbone.pretrained=None

All else as with ViT-B, but for patches of 14 pixels, so that levels have strides of 3.5 to 56.
"""

_base_ = './mask_rcnn_vit_b_1x.py'

zoo = 'https://mmassets.onedl.ai/mmpretrain/v1.0/dinov2/'

strides = [3.5, 7, 14, 28, 56]
extractor = dict(featmap_strides=strides[:4])
model = dict(
    data_preprocessor=dict(pad_size_divisor=56),
    backbone=dict(
        arch='dinov2-base',
        img_size=518,
        patch_size=14,
        layer_scale_init_value=1e-5,
        pretrained=zoo + 'vit-base-p14_dinov2-pre_3rdparty_20230426-ba246503.pth'),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(bbox_roi_extractor=extractor, mask_roi_extractor=extractor))
