"""EfficientViT-B0 classifier."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmltm.EfficientViT', arch='b0'),
    head=dict(
        type='mmltm.EfficientViTClsHead',
        num_classes=1000,
        in_channels=128,
        hidden_channels=(1024, 1280),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
