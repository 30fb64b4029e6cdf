"""As rivals_vit, on EfficientViT-B0 whose merged maps flow on: convolutions behind every merge see the smaller map.

Rivals that keep no grid merge for pointwise convolutions only, as many tokens in every block, and all come back.
'norms learn' lets the normalisations learn beside the masks; 'pooling, norms learn' holds the masks where they begin.
"""

config = 'ltm_efficientvit_b0_finetune_imagenette128'
vanilla = 'efficientvit_b0_imagenette128_60e'
overrides = {'model.backbone.restore': 'none'}
batch_sizes = (1, 16)

RATIOS, EPOCHS, SEEDS = (0.5, 0.3), 5, (0, 1, 2)
STEPS = {
    'LTM, no step': dict(mode='static', eta=0.),
    'LTM, by image with the layer': dict(eta=1.),
}

# Pairs leave half of the tokens at least.
grids, pairs = ({}, (0.7, *RATIOS)), (dict(window=8), (0.7, 0.5))
rivals = dict(AvgPool=grids, CubistMerge=grids, ToMe=pairs, ToFu=pairs)


def norms(masks, gain=0., layer=0.):
    keys = {'.mergers': masks, '.step_gain': gain, '.step_weight': layer}
    return {
        'custom_hooks.0.norms': True,
        'optim_wrapper.optimizer.lr': 1e-3,
        'optim_wrapper.paramwise_cfg.custom_keys': {key: dict(decay_mult=0., lr_mult=lr) for key, lr in keys.items()}}


def trained(label, step, ratios=RATIOS, seeds=SEEDS, **kwargs):
    return dict(label=label, merger=dict(type='LTM', num_classes=10, **step), ratios=ratios, epochs=(EPOCHS, ),
                seeds=seeds, **kwargs)


plain, best = STEPS
methods = [
    *(dict(label=name, merger=dict(type=name, **settings), ratios=ratios, epochs=(0, ))
      for name, (settings, ratios) in rivals.items()),
    *(trained(label, step) for label, step in STEPS.items()),
    trained(best, STEPS[best], ratios=(0.7, ), seeds=(0, )),
    trained('pooling, norms learn', STEPS[plain], overrides=norms(0.)),
    trained(f'{plain}, norms learn', STEPS[plain], overrides=norms(50.)),
    *(trained(f'{best}, norms learn', STEPS[best], ratios, seeds, overrides=norms(50., 10., 2.))
      for ratios, seeds in ((RATIOS, SEEDS), ((0.7, ), (0, )))),
]


def method(label, ratio, epochs=EPOCHS):
    return dict(label=label, ratio=ratio, epochs=epochs)


def beats(ours, theirs, ratio):
    return dict(text=f'At ratio {ratio}, {ours} beats {theirs}', ours=method(ours, ratio),
                theirs=method(theirs, ratio, 0 if theirs in rivals else EPOCHS))


claims = [
    *(beats(*pair, ratio) for ratio in RATIOS
      for pair in ((best, 'ToMe'), (best, 'ToFu'), (best, 'CubistMerge'), (best, 'AvgPool'), (best, plain),
                   (plain, 'AvgPool'), (f'{best}, norms learn', 'pooling, norms learn'),
                   (f'{best}, norms learn', f'{plain}, norms learn'))
      if pair[1] not in rivals or ratio in rivals[pair[1]][1]),
    *(dict(text=f'At batch {batch}, as fast as {ours} at ratio {ratio}, no ToMe is as accurate', latency=batch,
           ours=method(ours, ratio), theirs=[method('ToMe', other, 0) for other in rivals['ToMe'][1]])
      for ratio in RATIOS for ours in (best, f'{best}, norms learn') for batch in batch_sizes),
    *(dict(text=f'At ratio {ratio}, {ours} is at least as accurate as vanilla', ours=method(ours, ratio),
           theirs=dict(label='vanilla')) for ratio in (0.7, 0.5) for ours in (best, f'{best}, norms learn')),
    *(dict(text=f"At ratio 0.5, IB loss, layer by layer: {theirs['label']}'s is above {ours['label']}'s",
           quantity='ib_loss', ours=theirs, theirs=ours) for ours, theirs in (
               (method('ToMe', 0.5, 0), dict(label='vanilla')), (method(best, 0.5), dict(label='vanilla')),
               (method(best, 0.5), method('ToMe', 0.5, 0)), (method(best, 0.5), method(plain, 0.5)))),
    dict(text="At ratio 0.5, LTM's IB loss falls from layer to layer", quantity='ib_loss',
         ours=method(best, 0.5), theirs=method(best, 0.5)),
]
