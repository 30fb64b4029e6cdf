"""SSDLite, EfficientViT-B1, COCO detection at 320 x 320 pixels, 200 epochs.

    python tools/train.py configs/ssdlite_effvit_b1_200e.py [--data-root DIR]
    bash tools/dist_train.sh configs/ssdlite_effvit_b1_200e.py 8

Learning rate 0.0009 for a total batch of 128 (8 GPUs x 16 images). For another total batch add `--auto-scale-lr`.
From the weights of an ImageNet classifier: --cfg-options model.backbone.pretrained=PATH
"""

_base_ = './_base_/det_ssdlite_320.py'

model = dict(
    backbone=dict(_delete_=True, type='mmltm.EfficientViT', arch='b1', out_indices=(3, 4)),
    neck=dict(in_channels=(128, 256)))
