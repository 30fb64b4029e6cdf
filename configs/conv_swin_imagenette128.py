"""A small Swin Transformer with a convolutional stem from scratch on Imagenette at 128 pixels, 50 epochs.

    python tools/train.py configs/conv_swin_imagenette128.py --data-root DIR

Learning rate 0.002 for a total batch of 64, in bfloat16. Fewer epochs: --cfg-options train_cfg.max_epochs=10
"""

_base_ = [
    './_base_/models/conv_swin.py',
    './_base_/datasets/imagenette128.py',
    './_base_/schedules/imagenette_30e.py',
]

model = dict(head=dict(num_classes=10))
train_cfg = dict(max_epochs=50)
optim_wrapper = dict(type='mmltm.BFloat16OptimWrapper')
