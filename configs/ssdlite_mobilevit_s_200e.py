"""SSDLite, MobileViT-S, COCO detection at 320 x 320 pixels, 200 epochs.

    python tools/train.py configs/ssdlite_mobilevit_s_200e.py [--data-root DIR]
    bash tools/dist_train.sh configs/ssdlite_mobilevit_s_200e.py 8

Learning rate 0.0009 for a total batch of 128 (8 GPUs x 16 images). All else as with MobileViT-XS.
"""

_base_ = './ssdlite_mobilevit_xs_200e.py'

zoo = 'https://mmassets.onedl.ai/mmclassification/v0/mobilevit/'

model = dict(
    backbone=dict(
        arch='small',
        pretrained=zoo + 'mobilevit-small_3rdparty_in1k_20221018-cb4f741c.pth'),
    neck=dict(in_channels=(128, 160)))
