"""DeepLabV3 on LTM-MobileViT-XXS, from scratch on the mini set's label maps, on a CPU in minutes.

    python tools/dataset_converters/make_mini_coco.py generate data/mini_coco
    python tools/train.py configs/mini/deeplabv3_ltm_mobilevit_mini.py

Learning rate 0.002 for a total batch of 8, at 128 x 128 pixels. The vanilla twin:
--cfg-options model.backbone.ratio=None model.backbone.merger=None
"""

_base_ = ['../_base_/models/deeplabv3_mobilevit_s.py', '../_base_/seg_mini.py']

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        # As 'xx_small', but for the last two strides: maps of 16 x 16.
        arch=[['mobilenetv2', 16, 1, 1, 2], ['mobilenetv2', 24, 2, 3, 2], ['mobilevit', 48, 2, 64, 128, 2, 2],
              ['mobilevit', 64, 1, 80, 160, 4, 2], ['mobilevit', 80, 1, 96, 192, 3, 2]],
        pretrained=None, ratio=0.7, merger=dict(type='LTM', num_classes=6)),
    decode_head=dict(
        in_channels=320, channels=64, dilations=(1, 2, 4, 6), num_classes=6,
        # While shapes are hard to tell, the background would win every pixel against each of the five.
        loss_decode=dict(class_weight=[0.2, 1, 1, 1, 1, 1])))
custom_hooks = [dict(type='mmltm.IBStatisticsHook')]
