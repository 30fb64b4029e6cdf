"""Learnable token merging for a trained EfficientViT-B0, masks only, on Imagenette at 128 pixels.

    python tools/train.py configs/imagenette/efficientvit_b0_imagenette128.py --data-root DIR
    python tools/train.py configs/imagenette/ltm_efficientvit_b0_finetune_imagenette128.py --data-root DIR

5 epochs; another number by --cfg-options train_cfg.max_epochs=1. Learning rate 0.05 for a total batch of 64.
"""

_base_ = [
    '../_base_/models/efficientvit_b0.py',
    '../_base_/datasets/imagenette128.py',
    '../_base_/schedules/masks_only_imagenette.py',
]

load_from = 'work_dirs/efficientvit_b0_imagenette128/epoch_30.pth'
model = dict(
    backbone=dict(
        type='mmltm.LTMEfficientViT',
        merger=dict(type='LTM', ratio=0.7, num_classes=10)),
    head=dict(num_classes=10))
