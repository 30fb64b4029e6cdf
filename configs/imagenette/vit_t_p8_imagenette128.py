"""ViT-Ti with patches of 8 pixels from scratch on Imagenette at 128 pixels, 30 epochs.

    python tools/train.py configs/imagenette/vit_t_p8_imagenette128.py --data-root DIR

Learning rate 0.002 for a total batch of 64. Fewer epochs: --cfg-options train_cfg.max_epochs=10
"""

_base_ = [
    '../_base_/models/vit_t_p8.py',
    '../_base_/datasets/imagenette128.py',
    '../_base_/schedules/imagenette_30e.py',
]

model = dict(head=dict(num_classes=10))
