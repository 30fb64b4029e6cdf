"""MobileViT-XS with learnable token merging whose stages return to their size, for detectors to start from, 300 epochs.

    bash tools/dist_train.sh configs/imagenet/ltm_mobilevit_xs_stage_300e_in1k.py 8 [--data-root DIR] [--amp]

From scratch on ImageNet-1k at 224 pixels, ratio 0.7. Total batch 1024 (8 GPUs x 128 images). What the paper's form,
whose smaller maps flow on, saves behind the merges is not saved here; detectors cannot have it. All else as there.
"""

_base_ = './ltm_mobilevit_xs_300e_in1k.py'

model = dict(backbone=dict(restore='stage'))
