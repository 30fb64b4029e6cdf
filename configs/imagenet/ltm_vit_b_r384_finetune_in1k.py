"""Learnable token merging at ratio 0.7 for a trained ViT-B of Google's, masks only, on ImageNet-1k at 384 pixels.

    bash tools/dist_train.sh configs/imagenet/ltm_vit_b_r384_finetune_in1k.py 8 [--data-root DIR] [--amp]

25 epochs; 1, 5, 10 or 50 by --cfg-options train_cfg.max_epochs=5. Learning rate 0.01 for a total batch of 1024.
The weights ("How to train your ViT?", ImageNet-21k first) expect other colours than DeiT's: [-1, 1] in place of
ImageNet's mean and standard deviation.
"""

_base_ = [
    '../_base_/models/vit_b.py',
    '../_base_/datasets/in1k_384.py',
    '../_base_/schedules/masks_only.py',
]

load_from = ('https://mmassets.onedl.ai/mmclassification/v0/vit/finetune/'
             'vit-base-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-98e8652b.pth')
model = dict(
    backbone=dict(
        type='mmltm.LTMVisionTransformer', img_size=384,
        merger=dict(type='LTM', ratio=0.7, num_classes=1000, prior='partition')))
data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
