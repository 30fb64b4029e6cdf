"""A small ViT with a convolutional stem for small images: 6 blocks, tokens at stride 16, no class token."""

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=576),
        img_size=128,
        patch_size=16,
        patch_cfg=dict(conv_type='mmltm.ConvStem'),
        with_cls_token=False,
        out_type='avg_featmap',
        drop_path_rate=0.05),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=0.02),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
    ])
