"""Fine-tuning of the masks alone.

The paper's 1, 5, 10, 25 or 50 epochs are one value, `train_cfg.max_epochs`, here or on the command line
(--cfg-options train_cfg.max_epochs=5); the learning rate follows it. Masks take their steps on the
information-bottleneck bound from the first iteration on. Without statistics and steps:
--cfg-options model.backbone.merger.num_classes=None

Configs say in `load_from` which weights to start from, those of the vanilla model or of an earlier fine-tuning. Others
by --cfg-options load_from=PATH. For EfficientViT they come from timm's or the authors' files by
python tools/model_converters/convert_weights.py efficientvit_b1.r224_in1k.safetensors checkpoints/efficientvit_b1.pth
    --model efficientvit_b1
"""

_base_ = './adamw.py'

train_cfg = dict(by_epoch=True, max_epochs=25, val_interval=1)
# Logits start 1 above or 2 below the point where their entry changes: one epoch must be able to carry them there.
# The steps' gain and layer scale whole masks and want smaller ones.
optim_wrapper = dict(
    optimizer=dict(lr=1e-2),
    paramwise_cfg=dict(custom_keys={
        '.step_gain': dict(decay_mult=0.),
        '.step_weight': dict(lr_mult=0.2, decay_mult=0.),
    }))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
# Features hardly change, so the principal directions of the first batch serve the statistics to the end. The first
# statistics are of 20 images a class.
custom_hooks = [
    dict(type='mmltm.MaskTuningHook'),
    dict(type='mmltm.IBStatisticsHook', fit_projection=True, initial_images=20000),
    dict(type='mmltm.StartEvaluationHook'),  # what merging costs before the masks have learnt
]
auto_scale_lr = dict(base_batch_size=1024)
