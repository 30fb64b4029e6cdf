"""ViT-S, trained on ImageNet-1k, on a data set of your own (LTM paper, supplement 2.1).

    python tools/train.py configs/custom/vit_s_transfer_custom.py --data-root DIR
        --cfg-options model.head.num_classes=37

DIR holds `train/` and `val/` with a folder of images a class. Learning rate 0.0001 for a total batch of 64.
"""

_base_ = [
    '../_base_/models/vit_s.py',
    '../_base_/datasets/custom_224.py',
    '../_base_/schedules/transfer_50e.py',
]

num_classes = 10
# Classifier to start from, path or URL; its head is left behind.
# On the command line: --cfg-options model.backbone.init_cfg.checkpoint=PATH
pretrained = ('https://mmassets.onedl.ai/mmclassification/v0/deit/'
              'deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth')
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    head=dict(num_classes=num_classes))
