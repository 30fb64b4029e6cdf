"""Mask R-CNN, ViT-B with ViTDet's simple feature pyramid, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_vit_b_1x.py [--data-root DIR] --amp
    bash tools/dist_train.sh configs/mask_rcnn_vit_b_1x.py 8 --amp

Learning rate 0.0001 for a total batch of 16 (8 GPUs x 2 images). For another total batch add `--auto-scale-lr`.
Starts from DeiT's ImageNet weights; from scratch: --cfg-options model.backbone.pretrained=None

Every block attends to the whole image (in ViTDet four of twelve, the others within windows of 14 x 14 patches). That
cost grows with the square of the pixels: at 800 x 1344 the products of attention are 325 of the backbone's 685 G
multiply-accumulates. Merging leaves the later blocks fewer tokens to attend to: 188 of 446 G at ratio 0.7.
"""

_base_ = './_base_/det_mask_rcnn.py'

zoo = 'https://mmassets.onedl.ai/mmclassification/v0/deit/'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmltm.LTMVisionTransformer',
        arch='deit-base',
        out_type='featmap',
        drop_path_rate=0.1,
        pretrained=zoo + 'deit-base_pt-16xb64_in1k_20220216-db63c16c.pth'),
    neck=dict(_delete_=True, type='mmltm.SimpleFPN', in_channels=768))

optim_wrapper = dict(
    optimizer=dict(lr=0.0001),
    paramwise_cfg=dict(custom_keys={'pos_embed': dict(decay_mult=0.), 'cls_token': dict(decay_mult=0.)}))
