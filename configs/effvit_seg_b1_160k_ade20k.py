"""EfficientViT-Seg-B1, ADE20K semantic segmentation at 512 x 512 pixels, 160,000 iterations.

    python tools/train.py configs/effvit_seg_b1_160k_ade20k.py [--data-root DIR]
    bash tools/dist_train.sh configs/effvit_seg_b1_160k_ade20k.py 8

Learning rate 0.00006, ten times that for neck and head as mmseg trains SegFormer, for a total batch of 16 (8 GPUs x 2
images); EfficientViT's authors publish no recipe. For another total batch add `--auto-scale-lr`. From the weights of
an ImageNet classifier: --cfg-options model.backbone.pretrained=PATH
"""

_base_ = ['_base_/models/effvit_seg_b1.py', '_base_/seg_ade20k_160k.py']

optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'neck': dict(lr_mult=10.), 'head': dict(lr_mult=10.)}))
