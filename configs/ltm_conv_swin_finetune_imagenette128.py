"""Learnable token merging for a trained small Swin Transformer with a convolutional stem, masks only, on Imagenette.

    python tools/train.py configs/conv_swin_imagenette128.py --data-root DIR
    python tools/train.py configs/ltm_conv_swin_finetune_imagenette128.py --data-root DIR

5 epochs; another number by --cfg-options train_cfg.max_epochs=1. Learning rate 0.05 for a total batch of 64, in bfloat16.
"""

_base_ = [
    './_base_/models/conv_swin.py',
    './_base_/datasets/imagenette128.py',
    './_base_/schedules/masks_only_imagenette.py',
]

# The vanilla twin's checkpoint; another one by --cfg-options load_from=PATH.
load_from = 'work_dirs/conv_swin_imagenette128/epoch_50.pth'
model = dict(backbone=dict(type='mmltm.LTMSwin', merger=dict(type='LTM', ratio=0.7, num_classes=10)), head=dict(num_classes=10))
optim_wrapper = dict(type='mmltm.BFloat16OptimWrapper')
