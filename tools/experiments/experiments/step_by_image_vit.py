"""The information-bottleneck step, taken by every window of an image: the small ViT, masks alone, tokens flow on.

As ``step_by_image``, on a network whose head reads the mean of merged tokens: there an untrained step re-weighs the few
tokens of a group, which nobody has asked for, so its learnt size must be able to go to zero. Rows start with masks that
are a partition; 'fixed' keeps the size of the step at eta = 1.
"""

config = 'ltm_vit_c_finetune_imagenette128'
vanilla = ['efficientvit_b0_imagenette128_60e', 'vit_c_imagenette128_distilled']
batch_sizes = (1, 16)

RATIO, EPOCHS, SEEDS = 0.3, 5, (0, 1, 2)
STEPS = {
    'LTM, no step': dict(mode='static', eta=0.),
    'LTM, by image': dict(eta=1., layer=False),
    'LTM, by image with the layer': dict(eta=1.),
    'LTM, by image from 0': dict(eta=0.),
}
FIXED = {'optim_wrapper.paramwise_cfg.custom_keys': {
    '.mergers': dict(decay_mult=0.), '.step_gain': dict(lr_mult=0., decay_mult=0.)}}


def ltm(label, merger, seeds=SEEDS, **kwargs):
    return dict(label=label, merger=dict(type='LTM', window=8, num_classes=10, prior='partition', **merger),
                ratios=(RATIO, ), epochs=(EPOCHS, ), seeds=seeds, **kwargs)


methods = [
    dict(label='ToMe', merger=dict(type='ToMe', window=8), ratios=(0.5, ), epochs=(0, )),
    *(ltm(label, merger) for label, merger in STEPS.items()),
    ltm('LTM, by image, fixed', dict(eta=1., layer=False), seeds=(0, ), overrides=FIXED),
]


def method(label):
    return dict(label=label, ratio=RATIO, epochs=EPOCHS)


claims = [
    dict(text='A learnt gain gives back what the step takes: by image is at least as good as none',
         ours=method('LTM, by image'), theirs=method('LTM, no step')),
    dict(text='By image from 0 beats none', ours=method('LTM, by image from 0'), theirs=method('LTM, no step')),
    dict(text='The learnt gain beats the fixed one', ours=method('LTM, by image'),
         theirs=method('LTM, by image, fixed')),
]
