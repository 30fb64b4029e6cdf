"""Mask R-CNN, Swin-S with FPN, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_swin_s_1x.py [--data-root DIR] --amp
    bash tools/dist_train.sh configs/mask_rcnn_swin_s_1x.py 8 --amp

Learning rate 0.0001 for a total batch of 16 (8 GPUs x 2 images). All else as with Swin-T.
"""

_base_ = './mask_rcnn_swin_t_1x.py'

zoo = 'https://mmassets.onedl.ai/mmclassification/v0/swin-transformer/convert/'

model = dict(
    backbone=dict(arch='small', pretrained=zoo + 'swin_small_patch4_window7_224-cc7a01c9.pth'))
