"""Learnable token merging for a trained hybrid ViT, masks only, on Imagenette at 128 pixels.

    python tools/train.py configs/hybrid_vit_imagenette128.py --data-root DIR
    python tools/train.py configs/ltm_hybrid_vit_finetune_imagenette128.py --data-root DIR

5 epochs; another number by --cfg-options train_cfg.max_epochs=1. Learning rate 0.05 for a total batch of 64.
"""

_base_ = [
    './_base_/models/hybrid_vit.py',
    './_base_/datasets/imagenette128.py',
    './_base_/schedules/masks_only_imagenette.py',
]

# The vanilla twin's checkpoint; another one by --cfg-options load_from=PATH.
load_from = 'work_dirs/hybrid_vit_imagenette128/epoch_10.pth'
model = dict(backbone=dict(merger=dict(type='LTM', ratio=0.7, window=8, num_classes=10)))
