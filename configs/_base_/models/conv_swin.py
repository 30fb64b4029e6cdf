"""A small Swin Transformer for small images: convolutions up to stride 8, then stages at strides 8 and 16."""

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='SwinTransformer',
        arch=dict(embed_dims=64, depths=[2, 6], num_heads=[2, 4]),
        patch_size=8,
        patch_cfg=dict(conv_type='mmltm.ConvStem'),
        window_size=8,
        out_indices=(1, ),
        drop_path_rate=0.05),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
