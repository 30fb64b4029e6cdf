"""LTM and its rivals on a small ViT from one vanilla checkpoint, off the shelf and after masks-only training.

Tokens flow on merged to the end, where their mean is classified, with ToMe, ToFu and LTMP as published each counting
as many as it stands for, with masks all alike. So tokens matter: merging all to one in every block
must cost ten points ('one token' in the table). All mergers keep as many tokens in every block; LTMP keeps all until
its thresholds have learnt, and EViT needs a class token. Rows 'LTM, eta 0' start with masks that average areas, as
AvgPool does, rows 'partition' with masks that put every token into one of as many groups, all of about one size.
"""

config = 'ltm_vit_c_finetune_imagenette128'
vanilla = ['efficientvit_b0_imagenette128_60e', 'vit_c_imagenette128_distilled']

RATIO, EPOCHS = 0.5, 5
RATIOS = (0.7, 0.5, 0.3)
distill = dict(type='mmltm.DistillationHook')
norms = {
    'custom_hooks.0.norms': True,
    'optim_wrapper.optimizer.lr': 1e-3,
    'optim_wrapper.paramwise_cfg.custom_keys': {'.mergers': dict(decay_mult=0., lr_mult=50.)},
}


def rival(name, ratios=RATIOS, epochs=(0, ), **kwargs):
    return dict(label=name, merger=dict(type=name, window=8), ratios=ratios, epochs=epochs, **kwargs)


def ltm(label, merger=None, ratios=(RATIO, ), epochs=(EPOCHS, ), seeds=(0, ), overrides=None, hooks=()):
    return dict(label=label, merger=dict(type='LTM', window=8, num_classes=10, mode='static', eta=0.) | (merger or {}),
                ratios=ratios, epochs=epochs, seeds=seeds, overrides=overrides or {}, hooks=list(hooks))


partition = dict(prior='partition')
# Shares of its own tokens that each block keeps; the mean over all blocks is a half, too.
at_once, late = [0.5, 1., 1., 1., 1., 1.], [1., 1., 0.5625, 0.4444, 0.375, 1.]
SWEEP = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)

methods = [
    dict(label='one token', merger=dict(type='AvgPool', window=8), ratios=(0.0001, ), epochs=(0, )),
    *(rival(name, SWEEP) for name in ('ToMe', 'AvgPool')),
    rival('ToFu'),
    rival('Random', seeds=(0, 1, 2)),
    ltm('LTM, eta 0, partition', partition, SWEEP, (0, )),
    ltm('LTM, eta 0', epochs=(1, EPOCHS)),
    ltm('LTM, eta 0', ratios=(0.3, 0.7)),
    ltm('LTM, eta 0', seeds=(1, 2)),
    ltm('LTM, eta 0, partition', partition, epochs=(1, EPOCHS), seeds=(0, 1, 2)),
    ltm('LTM, eta 0, partition', partition, (0.3, 0.7)),
    ltm('LTM, eta 1, partition', dict(partition, eta=1.)),
    ltm('LTM, eta 0, partition, norms learn', partition, overrides=norms),
    ltm('LTM, eta 0, norms learn', overrides=norms),
    # Masks stay where they begin, at local averaging: what normalisations do alone.
    ltm('norms learn alone', overrides={
        **norms, 'optim_wrapper.paramwise_cfg.custom_keys': {'.mergers': dict(decay_mult=0., lr_mult=0.)}}),
    ltm('LTM, eta 1', dict(eta=1.)),
    dict(label='LTMP', merger=dict(type='LTMP'), ratios=(RATIO, ), epochs=(EPOCHS, )),
    ltm('LTM, eta 0, distilled', hooks=[distill]),
    ltm('LTM, eta 0, partition, distilled', partition, (0.5, 0.3), hooks=[distill]),
    # Masks of the first block alone keep no statistics, so there is nothing to log while they learn.
    *(dict(ltm(f'LTM, eta 0, {name}', dict(partition, ratio=shares), epochs=epochs), ratio=RATIO)
      for name, shares, epochs in (('at once', at_once, (0, )), ('late', late, (0, EPOCHS)))),
    ltm('LTM, instance', dict(eta=1., mode='instance')),
]


def method(label, epochs=EPOCHS, ratio=RATIO):
    return dict(label=label, ratio=ratio, epochs=epochs)


def when(epochs):
    return {0: 'off the shelf', 1: '1 epoch'}.get(epochs, f'{epochs} epochs')


def beats(ours, theirs, ratio=RATIO):
    names = [f'{label} ({when(epochs)})' for label, epochs in (ours, theirs)]
    return dict(text=f'At ratio {ratio}, {names[0]} beats {names[1]}', ours=method(*ours, ratio),
                theirs=method(*theirs, ratio))


def above(quantity, ours, theirs):
    title = dict(ib_loss='IB loss', ib_bound='IB bound')[quantity]
    return dict(text=f"{title}, layer by layer: {ours['label']}'s is above {theirs['label']}'s", quantity=quantity,
                ours=ours, theirs=theirs)


vanilla_cell, default = dict(label='vanilla'), 'LTM, eta 0, partition'
order = [vanilla_cell, method('ToMe', 0), method('LTMP'), method('LTM, eta 1')]

plot = ['ToMe', 'ToFu', 'LTMP', 'AvgPool', 'Random', default, 'LTM, eta 0']

claims = [
    dict(text='Tokens matter: vanilla beats one token a block', ours=vanilla_cell,
         theirs=method('one token', 0, 0.0001)),
    *(beats((default, epochs), ('ToMe', 0), ratio) for epochs in (0, EPOCHS) for ratio in RATIOS),
    beats((default, 1), ('ToMe', 0)),
    *(beats(('LTM, eta 0', EPOCHS), ('ToMe', 0), ratio) for ratio in RATIOS),
    *(beats(('LTM, eta 0, partition, distilled', EPOCHS), ('ToMe', 0), ratio) for ratio in (0.5, 0.3)),
    dict(text='At ratio 0.5, LTM after 5 epochs is at least as accurate as vanilla', ours=method(default),
         theirs=vanilla_cell),
    beats((default, EPOCHS), ('LTMP', EPOCHS)),
    beats(('LTMP', EPOCHS), ('ToFu', 0)),
    beats(('ToFu', 0), ('ToMe', 0)),
    *(beats((default, 0), ('AvgPool', 0), ratio) for ratio in RATIOS),
    *(beats((default, 0), ('Random', 0), ratio) for ratio in RATIOS),
    beats(('AvgPool', 0), ('Random', 0)),
    *(beats((default, EPOCHS), (default, 0), ratio) for ratio in RATIOS),
    *(beats(('LTM, eta 0', EPOCHS), ('AvgPool', 0), ratio) for ratio in RATIOS),
    beats((default, EPOCHS), ('LTM, eta 0', EPOCHS)),
    *(beats((label, 0), (default, 0)) for label in ('LTM, eta 0, at once', 'LTM, eta 0, late')),
    *(beats((label, EPOCHS), (default, EPOCHS)) for label in (
        'LTM, eta 1, partition', 'LTM, eta 0, partition, distilled', 'LTM, eta 0, partition, norms learn',
        'LTM, eta 0, late')),
    *(beats((label, EPOCHS), ('LTM, eta 0', EPOCHS)) for label in (
        'LTM, eta 1', 'LTM, instance', 'LTM, eta 0, norms learn', 'LTM, eta 0, distilled')),
    beats(('LTM, eta 0, norms learn', EPOCHS), ('norms learn alone', EPOCHS)),
    *(above(quantity, *pair) for quantity in ('ib_loss', 'ib_bound') for pair in zip(order, order[1:])),
    dict(text="LTM's IB bound falls from layer to layer", quantity='ib_bound', ours=order[-1], theirs=order[-1]),
]
