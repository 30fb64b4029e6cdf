"""Learnable token merging for a trained small ViT with a convolutional stem, masks only, on Imagenette at 128 pixels.

    python tools/train.py configs/imagenette/vit_c_imagenette128_distilled.py --data-root DIR
    python tools/train.py configs/imagenette/ltm_vit_c_finetune_imagenette128.py --data-root DIR

5 epochs; another number by --cfg-options train_cfg.max_epochs=1. Learning rate 0.05 for a total batch of 64, in
bfloat16.
"""

_base_ = [
    '../_base_/models/vit_c.py',
    '../_base_/datasets/imagenette128.py',
    '../_base_/schedules/masks_only_imagenette.py',
]

load_from = 'work_dirs/vit_c_imagenette128_distilled/epoch_40.pth'
model = dict(
    backbone=dict(
        type='mmltm.LTMVisionTransformer',
        restore='none',
        # 8 x 8 tokens are one window.
        merger=dict(type='LTM', ratio=0.7, window=8, num_classes=10, prior='partition')),
    head=dict(num_classes=10))
optim_wrapper = dict(type='mmltm.BFloat16OptimWrapper')
