"""A linear classifier on ViT-B of DINOv2 with learnable token merging at ratio 0.7, for a data set of your own.

    python tools/train.py configs/custom/ltm_dinov2_b_linear_custom.py --data-root DIR
        --cfg-options model.head.num_classes=37 model.backbone.merger.num_classes=37

Masks and the classifier learn, all other weights stay. All else as in the vanilla twin, which holds `num_classes` and
`pretrained`.
"""

_base_ = ['./dinov2_b_linear_custom.py', '../_base_/hooks/ib_transfer.py']

model = dict(
    backbone=dict(
        type='mmltm.LTMVisionTransformer',
        frozen_stages=-1,  # it would freeze the masks as well
        merger=dict(type='LTM', ratio=0.7, num_classes=_base_.num_classes)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'.mergers': dict(lr_mult=10.), 'backbone': dict(lr_mult=0.)}))
