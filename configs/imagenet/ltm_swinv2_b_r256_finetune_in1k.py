"""Learnable token merging at ratio 0.7 for a trained Swin-B V2, masks only, on ImageNet-1k at 256 pixels.

    bash tools/dist_train.sh configs/imagenet/ltm_swinv2_b_r256_finetune_in1k.py 8 [--data-root DIR] [--amp]

25 epochs; 1, 5, 10 or 50 by --cfg-options train_cfg.max_epochs=5. Learning rate 0.01 for a total batch of 1024.
"""

_base_ = [
    'mmpretrain::_base_/models/swin_transformer_v2/base_256.py',
    '../_base_/datasets/in1k_256.py',
    '../_base_/schedules/masks_only.py',
]

load_from = ('https://mmassets.onedl.ai/mmclassification/v0/swin-v2/'
             'swinv2-base-w16_3rdparty_in1k-256px_20220803-5a1886b7.pth')
model = dict(
    backbone=dict(
        type='mmltm.LTMSwinV2', window_size=[16, 16, 16, 8],
        merger=dict(type='LTM', ratio=0.7, num_classes=1000)),
    train_cfg=None)  # Mixup and CutMix belong to the data sets here.
