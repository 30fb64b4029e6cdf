"""DeepLabV3, MobileViT-S, ADE20K semantic segmentation at 512 x 512 pixels, 160,000 iterations.

    python tools/train.py configs/deeplabv3_mobilevit_s_160k_ade20k.py [--data-root DIR]
    bash tools/dist_train.sh configs/deeplabv3_mobilevit_s_160k_ade20k.py 8

Learning rate 0.00006, ten times that for the head as in ml-cvnets, for a total batch of 16 (8 GPUs x 2 images). For
another total batch add `--auto-scale-lr`. From scratch: --cfg-options model.backbone.pretrained=None
"""

_base_ = ['_base_/models/deeplabv3_mobilevit_s.py', '_base_/seg_ade20k_160k.py']

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'head': dict(lr_mult=10.)}))
