"""Mask R-CNN, ViTDet-L at 1024 x 1024 pixels, COCO instance segmentation, 100 epochs.

    python tools/train.py configs/mask_rcnn_vitdet_l_100e.py [--data-root DIR] --amp
    bash tools/dist_train.sh configs/mask_rcnn_vitdet_l_100e.py 8 --amp

Learning rate 0.0001 for a total batch of 64 (8 GPUs x 8 images). For another total batch add `--auto-scale-lr`; where
8 images do not fit, --cfg-options model.backbone.with_cp=True. Starts from the weights of MAE on ImageNet; from
scratch: --cfg-options model.backbone.pretrained=None
"""

_base_ = './_base_/det_vitdet_1024.py'

zoo = 'https://mmassets.onedl.ai/mmselfsup/1.x/mae/mae_vit-large-p16_8xb512-fp16-coslr-1600e_in1k/'

model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.4,
        pretrained=zoo + 'mae_vit-large-p16_8xb512-fp16-coslr-1600e_in1k_20220825-cc7e98c9.pth'),
    neck=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
