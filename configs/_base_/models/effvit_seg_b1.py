"""EfficientViT-Seg-B1 for ADE20K: maps of stride 8 to 32, fused at stride 8."""

norm_cfg = dict(type='SyncBN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
        pad_val=0, seg_pad_val=255, size=(512, 512)),
    backbone=dict(type='mmltm.EfficientViT', arch='b1', out_indices=(2, 3, 4)),
    neck=dict(type='mmltm.EfficientViTSegNeck', in_channels=(64, 128, 256), width=64, depth=3, norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', num_convs=0, concat_input=False, in_index=0, in_channels=64, channels=64, dropout_ratio=0,
        num_classes=150, align_corners=False, loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
