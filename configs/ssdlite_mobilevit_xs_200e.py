"""SSDLite, MobileViT-XS, COCO detection at 320 x 320 pixels, 200 epochs.

    python tools/train.py configs/ssdlite_mobilevit_xs_200e.py [--data-root DIR]
    bash tools/dist_train.sh configs/ssdlite_mobilevit_xs_200e.py 8

Learning rate 0.0009 for a total batch of 128 (8 GPUs x 16 images). For another total batch add `--auto-scale-lr`.
Starts from ImageNet weights; from scratch: --cfg-options model.backbone.pretrained=None
"""

_base_ = './_base_/det_ssdlite_320.py'

zoo = 'https://mmassets.onedl.ai/mmclassification/v0/mobilevit/'

model = dict(
    # What the ImageNet weights were trained on: BGR from 0 to 1.
    data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=False),
    backbone=dict(
        _delete_=True,
        type='mmltm.LTMMobileViT',
        arch='x_small',
        out_indices=(3, 4),
        last_exp_factor=None,
        pretrained=zoo + 'mobilevit-xsmall_3rdparty_in1k_20221018-be39a6e7.pth'),
    neck=dict(in_channels=(80, 96)))
