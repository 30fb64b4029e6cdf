"""Learnable token merging at ratio 0.7 for a trained ViT-S, masks only, on ImageNet-1k at 224 pixels.

    bash tools/dist_train.sh configs/imagenet/ltm_vit_s_finetune_in1k.py 8 [--data-root DIR] [--amp]

25 epochs; 1, 5, 10 or 50 by --cfg-options train_cfg.max_epochs=5. Learning rate 0.01 for a total batch of 1024.
"""

_base_ = [
    '../_base_/models/vit_s.py',
    '../_base_/datasets/in1k.py',
    '../_base_/schedules/masks_only.py',
]

load_from = ('https://mmassets.onedl.ai/mmclassification/v0/deit/'
             'deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth')
model = dict(
    backbone=dict(
        type='mmltm.LTMVisionTransformer',
        merger=dict(type='LTM', ratio=0.7, num_classes=1000, prior='partition')))
