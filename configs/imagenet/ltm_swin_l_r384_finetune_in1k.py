"""Learnable token merging at ratio 0.7 for a trained Swin-L, masks only, on ImageNet-1k at 384 pixels.

    bash tools/dist_train.sh configs/imagenet/ltm_swin_l_r384_finetune_in1k.py 8 [--data-root DIR] [--amp]

25 epochs; 1, 5, 10 or 50 by --cfg-options train_cfg.max_epochs=5. Learning rate 0.01 for a total batch of 1024.
The weights have seen ImageNet-21k first.
"""

_base_ = [
    'mmpretrain::_base_/models/swin_transformer/large_384.py',
    '../_base_/datasets/in1k_384.py',
    '../_base_/schedules/masks_only.py',
]

load_from = ('https://mmassets.onedl.ai/mmclassification/v0/swin-transformer/convert/'
             'swin_large_patch4_window12_384_22kto1k-0a40944b.pth')
model = dict(backbone=dict(type='mmltm.LTMSwin', merger=dict(type='LTM', ratio=0.7, num_classes=1000)))
