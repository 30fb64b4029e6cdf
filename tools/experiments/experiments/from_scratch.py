"""EfficientViT-B0 trained from scratch on Imagenette, with and without merging, all for as many epochs.

At ratio 0.5 merged maps flow on. LTM trains without merging for the first third of the epochs, as Algorithm 1 has it;
pooling merges from the first step. ToMe cannot take part: EfficientViT's convolutions need a grid of tokens. Standard
errors are over images; what another seed would change they do not say.
"""

config = 'ltm_efficientvit_b0_imagenette128'
epochs = 12
overrides = {'model.backbone.restore': 'none', 'custom_hooks.0.t_warm': epochs // 3}

training = dict(ratios=(0.5, ), epochs=(epochs, ))
methods = [
    dict(label='AvgPool', merger=dict(type='AvgPool'), **training),
    dict(label='LTM, eta 1', merger=dict(type='LTM', num_classes=10, eta=1., mode='static'), **training),
    dict(label='LTM, eta 0', merger=dict(type='LTM', num_classes=10, eta=0., mode='static'), **training),
]


def merged(label):
    return dict(label=label, ratio=0.5, epochs=epochs)


claims = [
    claim for label in ('LTM, eta 1', 'LTM, eta 0') for claim in (
        dict(text=f'From scratch, {label} is at least as accurate as vanilla',
             ours=merged(label), theirs=dict(label='vanilla', epochs=epochs)),
        dict(text=f'From scratch, {label} beats average pooling', ours=merged(label), theirs=merged('AvgPool')))
] + [
    dict(text='From scratch, the information-bottleneck step adds accuracy (eta 1 against eta 0)',
         ours=merged('LTM, eta 1'), theirs=merged('LTM, eta 0')),
]
