"""Fine-tuning of the masks alone.

The paper's 1, 5, 10, 25 or 50 epochs are one value, `train_cfg.max_epochs`, here or on the command line
(--cfg-options train_cfg.max_epochs=5); the learning rate follows it. The configs have `eta=0`: masks learn by the loss
and the information bottleneck is logged, but its step is not taken, which brought no accuracy beyond the error
(results/README.md). `eta=1` is the paper's; it needs the statistics of two epochs and moves masks from the third on.

Configs say in `load_from` which weights to start from, those of the vanilla model or of an earlier fine-tuning. Others
by --cfg-options load_from=PATH. For EfficientViT they come from timm's or the authors' files by
python tools/model_converters/convert_weights.py efficientvit_b1.r224_in1k.safetensors checkpoints/efficientvit_b1.pth
    --model efficientvit_b1
"""

_base_ = './adamw.py'

train_cfg = dict(by_epoch=True, max_epochs=25, val_interval=1)
# Logits start 1 above or 2 below the point where their entry changes: one epoch must be able to carry them there.
optim_wrapper = dict(optimizer=dict(lr=1e-2))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
# Features hardly change, so the principal directions of the first batch serve the statistics to the end.
custom_hooks = [
    dict(type='mmltm.MaskTuningHook'),
    dict(type='mmltm.IBStatisticsHook', fit_projection=True),
    dict(type='mmltm.StartEvaluationHook'),  # what merging costs before the masks have learnt
]
find_unused_parameters = True  # the frozen ones
auto_scale_lr = dict(base_batch_size=1024)
