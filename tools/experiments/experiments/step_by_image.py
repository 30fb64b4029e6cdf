"""The information-bottleneck step, taken by every window of an image: EfficientViT-B0, masks alone, maps flow on.

Rows 'no step' learn masks by the loss alone, 'static step' puts one running mean in the place of all steps, 'by image'
lets every window take its own, its size learnt from eta = 1 on, 'with the layer' lets the tokens pass the learnt layer
f(Z) = Z + Z W before. Convolutions behind every merge see the smaller map, so tokens matter.
"""

config = 'ltm_efficientvit_b0_finetune_imagenette128'
vanilla = 'efficientvit_b0_imagenette128_60e'
overrides = {'model.backbone.restore': 'none'}
batch_sizes = (1, 16)

RATIO, EPOCHS, SEEDS = 0.3, 5, (0, 1, 2)
STEPS = {
    'LTM, no step': dict(mode='static', eta=0.),
    'LTM, static step': dict(mode='static', eta=1.),
    'LTM, by image': dict(eta=1., layer=False),
    'LTM, by image with the layer': dict(eta=1.),
}

methods = [
    dict(label='AvgPool', merger=dict(type='AvgPool'), ratios=(RATIO, ), epochs=(0, )),
    *(dict(label=label, merger=dict(type='LTM', num_classes=10, **merger), ratios=(RATIO, ), epochs=(EPOCHS, ),
           seeds=SEEDS) for label, merger in STEPS.items()),
    dict(label='LTM, by image, eta 3', merger=dict(type='LTM', num_classes=10, eta=3.), ratios=(RATIO, ),
         epochs=(EPOCHS, ), seeds=SEEDS),
]


def method(label):
    return dict(label=label, ratio=RATIO, epochs=EPOCHS)


claims = [
    dict(text='A step by image beats none', ours=method('LTM, by image'), theirs=method('LTM, no step')),
    dict(text='The static step beats none', ours=method('LTM, static step'), theirs=method('LTM, no step')),
    dict(text='A step by image beats the static one', ours=method('LTM, by image'), theirs=method('LTM, static step')),
    dict(text='A step by image with the layer beats none', ours=method('LTM, by image with the layer'),
         theirs=method('LTM, no step')),
    dict(text='The layer adds to it', ours=method('LTM, by image with the layer'), theirs=method('LTM, by image')),
]
