"""Mask R-CNN, Swin-T with FPN, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_swin_t_1x.py [--data-root DIR] --amp
    bash tools/dist_train.sh configs/mask_rcnn_swin_t_1x.py 8 --amp

Learning rate 0.0001 for a total batch of 16 (8 GPUs x 2 images). For another total batch add `--auto-scale-lr`.
Starts from the ImageNet weights of mmdet's config, in mmpretrain's names.
"""

_base_ = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'

zoo = 'https://mmassets.onedl.ai/mmclassification/v0/swin-transformer/convert/'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmltm.LTMSwin',
        arch='tiny',
        drop_path_rate=0.2,
        out_indices=(0, 1, 2, 3),
        pretrained=zoo + 'swin_tiny_patch4_window7_224-160bb0a5.pth'))

# Weight decay would pull every mask logit to the point where its entry is a coin toss.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'mergers': dict(decay_mult=0.)}))
