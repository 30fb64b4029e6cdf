"""LTM and its rivals on MobileViT-XXS from one vanilla checkpoint, off the shelf and after masks-only training.

All bring their tokens back at the end of a stage, so that all work on as many of them: LTM, pooling and random merging
on 8 x 8, 4 x 4 and 2 x 2 patches, those without a grid on as many tokens, or half where they can take no more away.
LTMP keeps all until its thresholds have learnt. EViT needs a class token.

ToMe, ToFu and LTMP copy merged tokens to all places that went into them. LTM adds to every token what its merged ones
have gained, which forgives merging much: even one token a stage costs little ('one token'). This
network hardly needs its tokens, which makes it a weak bed.
"""

config = 'ltm_mobilevit_xxs_finetune_imagenette128'
vanilla = ['mobilevit_xxs_imagenette128', 'mobilevit_xxs_imagenette128_restart']
overrides = {'model.backbone.restore': 'stage'}

EPOCHS = 3
distill = dict(type='mmltm.DistillationHook')
norms = {
    'custom_hooks.0.norms': True,
    'optim_wrapper.optimizer.lr': 1e-3,
    'optim_wrapper.paramwise_cfg.custom_keys': {'.mergers': dict(decay_mult=0., lr_mult=50.)},
}
one = dict(type='AvgPool', window=8)


def ltm(label, eta=0., epochs=(EPOCHS, ), overrides=None, hooks=()):
    return dict(label=label, merger=dict(type='LTM', num_classes=10, eta=eta, mode='static'), ratios=(0.5, ),
                epochs=epochs, overrides=overrides or {}, hooks=list(hooks))


methods = [
    *(dict(label=name, merger=dict(type=name), ratios=(0.7, 0.5), epochs=(0, ))
      for name in ('ToMe', 'ToFu', 'AvgPool', 'Random')),
    dict(label='one token', merger=one, ratios=(0.0001, ), epochs=(0, )),
    *(dict(label='SoftMerging', merger=dict(type='SoftMerging', p=p), epochs=(0, )) for p in (2, 4)),
    ltm('LTM, eta 0', epochs=(0, EPOCHS)),
    ltm('LTM, eta 0, norms learn, distilled', overrides=norms, hooks=[distill]),
    dict(label='LTMP', merger=dict(type='LTMP'), ratios=(0.5, ), epochs=(EPOCHS, )),
    ltm('LTM, eta 1', 1.),
]


def method(label, epochs=0, ratio=0.5):
    return dict(label=label, ratio=ratio, epochs=epochs)


def beats(ours, theirs):
    names = [f'{label} ({epochs} epochs)' for label, epochs in (ours, theirs)]
    return dict(text=f'At ratio 0.5, {names[0]} beats {names[1]}', ours=method(*ours), theirs=method(*theirs))


claims = [
    beats(('LTM, eta 0', EPOCHS), ('ToMe', 0)),
    beats(('LTM, eta 0, norms learn, distilled', EPOCHS), ('ToMe', 0)),
    beats(('LTM, eta 0', EPOCHS), ('LTMP', EPOCHS)),
    beats(('LTM, eta 0', EPOCHS), ('ToFu', 0)),
    beats(('LTM, eta 0', EPOCHS), ('AvgPool', 0)),
    beats(('AvgPool', 0), ('Random', 0)),
    beats(('ToFu', 0), ('ToMe', 0)),
    beats(('ToMe', 0), ('AvgPool', 0)),
    beats(('LTM, eta 1', EPOCHS), ('LTM, eta 0', EPOCHS)),
]
