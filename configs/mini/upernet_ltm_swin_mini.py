"""UPerNet on a small LTM-Swin, from scratch on the mini set's label maps, on a CPU in minutes.

    python tools/dataset_converters/make_mini_coco.py generate data/mini_coco
    python tools/train.py configs/mini/upernet_ltm_swin_mini.py

Learning rate 0.001 for a total batch of 8, at 128 x 128 pixels. The vanilla twin:
--cfg-options model.backbone.ratio=None model.backbone.merger=None
"""

_base_ = ['../_base_/models/upernet_swin_t.py', '../_base_/seg_mini.py']

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=48, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16)),
        window_size=4, drop_path_rate=0., pretrained=None, ratio=0.7, merger=dict(type='LTM', num_classes=6)),
    decode_head=dict(
        in_channels=[48, 96, 192, 384], channels=64, num_classes=6,
        # While shapes are hard to tell, the background would win every pixel against each of the five.
        loss_decode=dict(class_weight=[0.2, 1, 1, 1, 1, 1])),
    auxiliary_head=None)
optim_wrapper = dict(optimizer=dict(lr=0.001))
custom_hooks = [dict(type='mmltm.IBStatisticsHook')]
