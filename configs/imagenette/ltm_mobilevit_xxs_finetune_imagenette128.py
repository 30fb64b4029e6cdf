"""Learnable token merging for a trained MobileViT-XXS, masks only, on Imagenette at 128 pixels.

    python tools/train.py configs/imagenette/mobilevit_xxs_imagenette128.py --data-root DIR
    python tools/train.py configs/imagenette/ltm_mobilevit_xxs_finetune_imagenette128.py --data-root DIR

5 epochs; another number by --cfg-options train_cfg.max_epochs=1. Learning rate 0.05 for a total batch of 64.
Maps keep their size, unlike in the recipe from scratch: weights trained without merging need that.
"""

_base_ = [
    '../_base_/models/mobilevit_xxs.py',
    '../_base_/datasets/imagenette128_mobilevit.py',
    '../_base_/schedules/masks_only_imagenette.py',
]

load_from = 'work_dirs/mobilevit_xxs_imagenette128/epoch_30.pth'
model = dict(
    backbone=dict(type='mmltm.LTMMobileViT', merger=dict(type='LTM', ratio=0.7, num_classes=10)),
    head=dict(num_classes=10))
