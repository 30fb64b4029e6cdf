"""EfficientViT-B0 from scratch on Imagenette at 128 pixels, 60 epochs.

    python tools/train.py configs/imagenette/efficientvit_b0_imagenette128_60e.py --data-root DIR

Learning rate 0.002 for a total batch of 64.
"""

_base_ = './efficientvit_b0_imagenette128.py'

train_cfg = dict(max_epochs=60)
