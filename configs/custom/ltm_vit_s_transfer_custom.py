"""ViT-S with learnable token merging at ratio 0.7, trained on ImageNet-1k, on a data set of your own.

    python tools/train.py configs/custom/ltm_vit_s_transfer_custom.py --data-root DIR
        --cfg-options model.head.num_classes=37 model.backbone.merger.num_classes=37

Weights and masks learn (LTM paper, supplement 2.1). All else as in the vanilla twin, which holds `num_classes` and
`pretrained`; a checkpoint with masks will do as well.
"""

_base_ = ['./vit_s_transfer_custom.py', '../_base_/hooks/ib_transfer.py']

model = dict(
    backbone=dict(
        type='mmltm.LTMVisionTransformer', merger=dict(type='LTM', ratio=0.7, num_classes=_base_.num_classes)))
