"""Swin-T with windows of 4 tokens from scratch on Imagenette at 128 pixels, 30 epochs.

    python tools/train.py configs/imagenette/swin_t_imagenette128.py --data-root DIR

Learning rate 0.002 for a total batch of 64. Fewer epochs: --cfg-options train_cfg.max_epochs=10
"""

_base_ = [
    '../_base_/models/swin_t_w4.py',
    '../_base_/datasets/imagenette128.py',
    '../_base_/schedules/imagenette_30e.py',
]

model = dict(head=dict(num_classes=10))
