"""Masks alone on EfficientViT-B0 whose merged maps flow on: what learning, and each choice of ours, is worth.

Without restoration every convolution behind a merge sees the smaller map, so tokens matter: merging all to one must
cost tens of points ('one token' in the table). ToMe and other mergers without a grid cannot run here. 'LTM, eta 1'
takes the paper's information-bottleneck step, normalised as by default; 'raw step' takes it as printed; 'LTM, eta 0'
takes none, and further rows change one thing of it.
"""

config = 'ltm_efficientvit_b0_finetune_imagenette128'
vanilla = 'efficientvit_b0_imagenette128_60e'
overrides = {'model.backbone.restore': 'none'}

distill = dict(type='mmltm.DistillationHook')
norms = {
    'custom_hooks.0.norms': True,
    'optim_wrapper.optimizer.lr': 1e-3,
    'optim_wrapper.paramwise_cfg.custom_keys': {'.mergers': dict(decay_mult=0., lr_mult=50.)},
}
RATIO, EPOCHS = 0.3, 5  # of all that is about one choice


def ltm(label, merger=None, ratios=(RATIO, ), epochs=(EPOCHS, ), seeds=(0, ), overrides=None, hooks=()):
    merger = dict(type='LTM', num_classes=10, eta=0., mode='static') | (merger or {})
    return dict(label=label, merger=merger, ratios=ratios, epochs=epochs, seeds=seeds,
                overrides=overrides or {}, hooks=list(hooks))


def step(label, eta, **kwargs):
    method = ltm(label, **kwargs)
    return dict(method, merger=dict(method['merger'], eta=eta))


methods = [
    dict(label='one token', merger=dict(type='AvgPool', window=8), ratios=(0.0001, ), epochs=(0, )),
    dict(label='AvgPool', merger=dict(type='AvgPool'), ratios=(0.7, 0.5, 0.3), epochs=(0, )),
    dict(label='Random', merger=dict(type='Random'), ratios=(0.7, 0.5, 0.3), epochs=(0, ), seeds=(0, 1, 2)),
    ltm('LTM, eta 0', seeds=(0, 1, 2)),
    step('LTM, eta 1', 1., seeds=(0, 1, 2)),
    ltm('LTM, eta 0', ratios=(0.5, 0.7)),
    ltm('LTM, eta 0, distilled', hooks=[distill]),
    ltm('LTM, eta 0, norms learn', overrides=norms),
    ltm('LTM, eta 0, norms learn, distilled', overrides=norms, hooks=[distill]),
    # Masks stay where they begin, at local averaging: what normalisations do alone.
    ltm('norms learn alone', overrides={
        **norms, 'optim_wrapper.paramwise_cfg.custom_keys': {'.mergers': dict(decay_mult=0., lr_mult=0.)}}),
    step('LTM, eta 1', 1., ratios=(0.5, )),
    step('LTM, step reversed', -1.),
    ltm('LTM, eta 0, uniform prior', dict(prior='uniform')),
    ltm('LTM, eta 0, partition', dict(prior='partition'), ratios=(0.7, 0.5, 0.3), epochs=(0, )),
    ltm('LTM, eta 0, partition', dict(prior='partition'), seeds=(0, 1, 2)),
    ltm('LTM, eta 0, partition', dict(prior='partition'), ratios=(0.5, 0.7)),
    step('LTM, raw step', 1., merger=dict(step_norm='none', beta=1., normalize=False, center=False)),
    # One thing of the step at a time, on top of eta 1.
    step('LTM, eta 1, beta 1', 1., merger=dict(beta=1.)),
    step('LTM, eta 1, not centred', 1., merger=dict(center=False)),
    step('LTM, eta 1, exact statistics', 1., merger=dict(stat_dim=None)),
    ltm('LTM, eta 0, window 4', dict(window=4), epochs=(0, EPOCHS)),
    ltm('LTM, eta 0', epochs=(1, 10)),
    step('LTM, eta 0.1', 0.1),
    step('LTM, instance', 1., merger=dict(mode='instance', layer=False), seeds=(0, 1, 2)),
]


def method(label, ratio=RATIO, epochs=EPOCHS):
    return dict(label=label, ratio=ratio, epochs=epochs)


def claim(text, ours, theirs='LTM, eta 0'):
    return dict(text=text, ours=method(ours), theirs=method(theirs))


claims = [
    *(dict(text=f'At ratio {ratio}, masks that have learnt for 5 epochs beat average pooling',
           ours=method('LTM, eta 0', ratio), theirs=method('AvgPool', ratio, 0)) for ratio in (0.3, 0.5, 0.7)),
    dict(text='At ratio 0.3, local averaging beats a random choice',
         ours=method('AvgPool', epochs=0), theirs=method('Random', epochs=0)),
    claim('The information-bottleneck step adds accuracy (eta 1 against eta 0)', 'LTM, eta 1'),
    dict(text='The same at ratio 0.5', ours=method('LTM, eta 1', 0.5), theirs=method('LTM, eta 0', 0.5)),
    claim('A tenth of the step adds accuracy (eta 0.1 against eta 0)', 'LTM, eta 0.1'),
    claim('Its sign matters (eta 1 against the step reversed)', 'LTM, eta 1', 'LTM, step reversed'),
    claim("The paper's raw step adds accuracy (against eta 0)", 'LTM, raw step'),
    claim('A step by image beats the running mean (both eta 1)', 'LTM, instance', 'LTM, eta 1'),
    claim('A step by image beats none', 'LTM, instance'),
    claim('A sharper assignment to classes helps the step (beta 10 against 1)', 'LTM, eta 1', 'LTM, eta 1, beta 1'),
    claim('Centring helps the step', 'LTM, eta 1', 'LTM, eta 1, not centred'),
    claim('Exact statistics help the step (stat_dim=None against 16)', 'LTM, eta 1, exact statistics', 'LTM, eta 1'),
    claim('The whole map as one window beats windows of 4 x 4', 'LTM, eta 0', 'LTM, eta 0, window 4'),
    dict(text='The same before learning', ours=method('AvgPool', epochs=0),
         theirs=method('LTM, eta 0, window 4', epochs=0)),
    dict(text='Ten epochs beat five', ours=method('LTM, eta 0', epochs=10), theirs=method('LTM, eta 0')),
    dict(text='Five epochs beat one', ours=method('LTM, eta 0'), theirs=method('LTM, eta 0', epochs=1)),
    claim('Distillation from the vanilla model adds accuracy', 'LTM, eta 0, distilled'),
    claim('Learning normalisations, too, adds accuracy', 'LTM, eta 0, norms learn'),
    claim('Masks add accuracy to normalisations that learn', 'LTM, eta 0, norms learn', 'norms learn alone'),
    claim('Both add accuracy', 'LTM, eta 0, norms learn, distilled'),
    *(dict(text=f'At ratio {ratio}, groups of tokens beat averaged areas, both before learning',
           ours=method('LTM, eta 0, partition', ratio, 0), theirs=method('AvgPool', ratio, 0))
      for ratio in (0.7, 0.5, 0.3)),
    *(dict(text=f'At ratio {ratio}, starting at groups beats starting at averaged areas, after 5 epochs',
           ours=method('LTM, eta 0, partition', ratio), theirs=method('LTM, eta 0', ratio))
      for ratio in (0.3, 0.5, 0.7)),
    claim('Starting at local averaging beats a uniform start', 'LTM, eta 0', 'LTM, eta 0, uniform prior'),
]
