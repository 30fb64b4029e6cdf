"""Swin-B with learnable token merging at ratio 0.7, from scratch on ImageNet-1k at 224 pixels, 300 epochs.

    bash tools/dist_train.sh configs/imagenet/ltm_swin_b_300e_in1k.py 8 [--data-root DIR] [--amp]

Total batch 1024 (8 GPUs x 128 images). The first 100 epochs do not merge. All else as in the vanilla twin.
"""

_base_ = ['./swin_b_300e_in1k.py', '../_base_/hooks/ib_300e.py']

model = dict(backbone=dict(type='mmltm.LTMSwin', merger=dict(type='LTM', ratio=0.7, num_classes=1000)))
