"""UPerNet on Swin-T for ADE20K, from mmseg's; the backbone is ours without merging, from ImageNet weights."""

_base_ = 'mmseg::_base_/models/upernet_swin.py'

zoo = 'https://mmassets.onedl.ai/mmclassification/v0/swin-transformer/convert/'

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type='mmltm.LTMSwin',
        arch='tiny',
        drop_path_rate=0.3,
        out_indices=(0, 1, 2, 3),
        pretrained=zoo + 'swin_tiny_patch4_window7_224-160bb0a5.pth'),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150))
