"""AdamW for all classifiers here, and what they share at run time."""

_base_ = 'mmpretrain::_base_/default_runtime.py'

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        norm_decay_mult=0.,
        bias_decay_mult=0.,
        custom_keys={
            '.cls_token': dict(decay_mult=0.),
            '.pos_embed': dict(decay_mult=0.),
            '.relative_position_bias_table': dict(decay_mult=0.),
            # Decay would pull every mask logit to the point where its entry is a coin toss.
            '.mergers': dict(decay_mult=0.),
        }),
    clip_grad=dict(max_norm=5.0))
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='accuracy/top1'))
