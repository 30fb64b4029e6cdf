"""Learnable token merging at ratio 0.7 for a trained EfficientViT-B1, masks only, on ImageNet-1k at 288 pixels.

    bash tools/dist_train.sh configs/imagenet/ltm_efficientvit_b1_r288_finetune_in1k.py 8 [--data-root DIR] [--amp]

25 epochs; 1, 5, 10 or 50 by --cfg-options train_cfg.max_epochs=5. Learning rate 0.01 for a total batch of 1024.
"""

_base_ = [
    '../_base_/models/efficientvit_b1.py',
    '../_base_/datasets/in1k_288.py',
    '../_base_/schedules/masks_only.py',
]

# Converted from the file of timm or of the authors as _base_/schedules/masks_only.py says.
load_from = 'checkpoints/efficientvit_b1_r288.pth'
model = dict(
    backbone=dict(type='mmltm.LTMEfficientViT', merger=dict(type='LTM', ratio=0.7, num_classes=1000)))
