"""Learnable token merging at ratio 0.7 for a trained MobileViT-XXS, masks only, on ImageNet-1k at 224 pixels.

    bash tools/dist_train.sh configs/imagenet/ltm_mobilevit_xxs_finetune_in1k.py 8 [--data-root DIR] [--amp]

25 epochs; 1, 5, 10 or 50 by --cfg-options train_cfg.max_epochs=5. Learning rate 0.01 for a total batch of 1024.
Maps keep their size, unlike in the recipe from scratch: weights trained without merging need that.
"""

_base_ = [
    '../_base_/models/mobilevit_xxs.py',
    '../_base_/datasets/in1k_mobilevit.py',
    '../_base_/schedules/masks_only.py',
]

load_from = ('https://mmassets.onedl.ai/mmclassification/v0/mobilevit/'
             'mobilevit-xxsmall_3rdparty_in1k_20221018-77835605.pth')
model = dict(backbone=dict(type='mmltm.LTMMobileViT', merger=dict(type='LTM', ratio=0.7, num_classes=1000)))
