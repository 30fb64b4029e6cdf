"""Learnable token merging at ratio 0.7 for a trained Swin-B, masks only, on ImageNet-1k at 224 pixels.

    bash tools/dist_train.sh configs/imagenet/ltm_swin_b_finetune_in1k.py 8 [--data-root DIR] [--amp]

25 epochs; 1, 5, 10 or 50 by --cfg-options train_cfg.max_epochs=5. Learning rate 0.01 for a total batch of 1024.
"""

_base_ = [
    '../_base_/models/swin_b.py',
    '../_base_/datasets/in1k.py',
    '../_base_/schedules/masks_only.py',
]

load_from = ('https://mmassets.onedl.ai/mmclassification/v0/swin-transformer/convert/'
             'swin_base_patch4_window7_224-4670dd19.pth')
model = dict(backbone=dict(type='mmltm.LTMSwin', merger=dict(type='LTM', ratio=0.7, num_classes=1000)))
