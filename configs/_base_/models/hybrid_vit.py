"""A small hybrid for small images: six transformer layers on the maps of EfficientViT-B0's first three stages."""

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmltm.LTMVisionTransformer',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        stem=dict(type='mmltm.EfficientViT', arch='b0', out_indices=(3, )),
        img_size=8,
        patch_size=1,
        in_channels=64,
        drop_path_rate=0.05),
    head=dict(
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
