"""DeepLabV3 on MobileViT-S for ADE20K: mmseg's with the figures of ml-cvnets, from ImageNet weights.

The last stage keeps its stride of 16. Departures from ml-cvnets: its convolutions there are not dilated, which
mmpretrain's MobileViT has no way to ask for, and the head sees the 640 channels behind the stage's last convolution.
"""

_base_ = 'mmseg::_base_/models/deeplabv3_r50-d8.py'

zoo = 'https://mmassets.onedl.ai/mmclassification/v0/mobilevit/'

model = dict(
    # What the ImageNet weights were trained on: BGR from 0 to 1.
    data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=False, size=(512, 512)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='mmltm.LTMMobileViT',
        # As 'small', but for the last stride.
        arch=[['mobilenetv2', 32, 1, 1, 4], ['mobilenetv2', 64, 2, 3, 4], ['mobilevit', 96, 2, 144, 288, 2, 4],
              ['mobilevit', 128, 2, 192, 384, 4, 4], ['mobilevit', 160, 1, 240, 480, 3, 4]],
        out_indices=(4, ),
        pretrained=zoo + 'mobilevit-small_3rdparty_in1k_20221018-cb4f741c.pth'),
    decode_head=dict(in_channels=640, in_index=0, channels=256, dilations=(1, 6, 12, 18), num_classes=150),
    auxiliary_head=None)
