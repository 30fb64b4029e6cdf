"""ViT-B with learnable token merging at ratio 0.7, trained on ImageNet-1k, by LoRA on a data set of your own.

    python tools/train.py configs/custom/ltm_vit_b_lora_custom.py --data-root DIR
        --cfg-options model.head.num_classes=37 model.backbone.module.merger.num_classes=37

Low-rank weights, masks and the head learn (LTM paper, supplement 2.2); checkpoints hold only these. DIR holds
`train/` and `val/` with a folder of images a class. Learning rate 0.001 for a total batch of 64.
"""

_base_ = [
    '../_base_/models/vit_b.py',
    '../_base_/datasets/custom_224.py',
    '../_base_/schedules/transfer_50e.py',
    '../_base_/hooks/ib_transfer.py',
]

num_classes = 10
# Classifier below the low-rank weights, path or URL, for tests too; its head is left behind.
# On the command line: --cfg-options model.backbone.module.init_cfg.checkpoint=PATH
pretrained = ('https://mmassets.onedl.ai/mmclassification/v0/deit/'
              'deit-base_3rdparty_pt-16xb64_in1k_20211124-6f40c188.pth')
model = dict(
    init_cfg=None,  # it would overwrite the weights, which LoRA loads when it is built
    backbone=dict(
        _delete_=True,
        type='mmltm.LTMLoRAModel',
        module=dict(
            type='mmltm.LTMVisionTransformer',
            arch='deit-base',
            merger=dict(type='LTM', ratio=0.7, num_classes=num_classes),
            init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
        rank=16,
        alpha=16,
        targets=[dict(type='qkv')]),
    head=dict(num_classes=num_classes))
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys={'.mergers': dict(lr_mult=1.)}))
