"""As rivals_vit, on EfficientViT-B0 whose merged maps flow on, where rivals that keep no grid cannot run.

Convolutions behind every merge see the smaller map, so tokens matter.
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

methods = [
    dict(label='AvgPool', merger=dict(type='AvgPool'), ratios=RATIOS, epochs=(0, )),
    *(dict(label=label, merger=dict(type='LTM', num_classes=10, **step), ratios=RATIOS, epochs=(EPOCHS, ), seeds=SEEDS)
      for label, step in STEPS.items()),
]


def method(label, ratio, epochs=EPOCHS):
    return dict(label=label, ratio=ratio, epochs=epochs)


def beats(ours, theirs, ratio):
    return dict(text=f'At ratio {ratio}, {ours} beats {theirs}', ours=method(ours, ratio),
                theirs=method(theirs, ratio, 0 if theirs == 'AvgPool' else EPOCHS))


plain, best = STEPS
claims = [
    *(beats(*pair, ratio) for ratio in RATIOS
      for pair in ((best, 'AvgPool'), (best, plain), (plain, 'AvgPool'))),
    dict(text='At ratio 0.5, LTM is at least as accurate as vanilla', ours=method(best, 0.5),
         theirs=dict(label='vanilla')),
]
