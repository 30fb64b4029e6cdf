"""MobileViT-XXS on Imagenette at 128 pixels, 15 epochs more from a warm restart of the learning rate.

    python tools/train.py configs/imagenette/mobilevit_xxs_imagenette128.py --data-root DIR
    python tools/train.py configs/imagenette/mobilevit_xxs_imagenette128_restart.py --data-root DIR

Learning rate 0.001 for a total batch of 64. Restarts: Loshchilov and Hutter, arXiv 1608.03983.
"""

_base_ = './mobilevit_xxs_imagenette128.py'

# Another checkpoint to start from by --cfg-options load_from=PATH.
load_from = 'work_dirs/mobilevit_xxs_imagenette128/epoch_30.pth'
train_cfg = dict(max_epochs=15)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
