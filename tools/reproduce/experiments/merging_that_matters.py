"""Masks alone on EfficientViT-B0 whose merged maps flow on: what learning, and each choice of ours, is worth.

Without restoration every convolution behind a merge sees the smaller map, so tokens matter: merging all to one must cost
tens of points ('one token' in the table). ToMe and other mergers without a grid cannot run here.
"""

config = 'ltm_efficientvit_b0_finetune_imagenette128'
vanilla = 'efficientvit_b0_imagenette128'
overrides = {'model.backbone.restore': 'none'}

ltm = dict(type='LTM', num_classes=10)
distill = dict(type='mmltm.DistillationHook')
norms = {
    'custom_hooks.0.norms': True,
    'optim_wrapper.optimizer.lr': 1e-3,
    'optim_wrapper.paramwise_cfg.custom_keys': {'.mergers': dict(decay_mult=0., lr_mult=50.)},
}


def ablation(label, merger=None, overrides=None, hooks=()):
    return dict(label=label, merger=dict(ltm, **(merger or {})), ratios=(0.3, ), epochs=(5, ),
                overrides=overrides or {}, hooks=list(hooks))


methods = [
    dict(label='one token', merger=dict(type='AvgPool', window=8), ratios=(0.0001, ), epochs=(0, )),
    dict(label='AvgPool', merger=dict(type='AvgPool'), ratios=(0.7, 0.5, 0.3), epochs=(0, )),
    dict(label='Random', merger=dict(type='Random'), ratios=(0.7, 0.5, 0.3), epochs=(0, )),
    dict(label='LTM', merger=ltm, ratios=(0.3, 0.5, 0.7), epochs=(0, 5)),
    ablation('LTM, eta 0', dict(eta=0.)),
    ablation('LTM, eta 0.1', dict(eta=0.1)),
    ablation('LTM, eta 0.3', dict(eta=0.3)),
    ablation('LTM, distilled', hooks=[distill]),
    ablation('LTM, norms learn', overrides=norms),
    ablation('LTM, norms learn, distilled', overrides=norms, hooks=[distill]),
    ablation('LTM, eta -1', dict(eta=-1.)),
    ablation('LTM, uniform prior', dict(prior='uniform')),
    ablation('LTM, instance', dict(mode='instance')),
]
claims = [
    dict(text='At ratio 0.3, masks that have learnt for 5 epochs beat average pooling',
         ours=dict(label='LTM', ratio=0.3, epochs=5), theirs=dict(label='AvgPool', ratio=0.3)),
    dict(text='At ratio 0.5, masks that have learnt for 5 epochs beat average pooling',
         ours=dict(label='LTM', ratio=0.5, epochs=5), theirs=dict(label='AvgPool', ratio=0.5)),
    dict(text='At ratio 0.7, masks that have learnt for 5 epochs beat average pooling',
         ours=dict(label='LTM', ratio=0.7, epochs=5), theirs=dict(label='AvgPool', ratio=0.7)),
    dict(text='At ratio 0.3, local averaging beats a random choice',
         ours=dict(label='AvgPool', ratio=0.3), theirs=dict(label='Random', ratio=0.3)),
    dict(text='The information-bottleneck step adds accuracy (against eta 0)',
         ours=dict(label='LTM', ratio=0.3, epochs=5), theirs=dict(label='LTM, eta 0', ratio=0.3, epochs=5)),
    *(dict(text=f'A smaller step, eta {eta}, adds accuracy (against eta 0)',
           ours=dict(label=f'LTM, eta {eta}', ratio=0.3, epochs=5),
           theirs=dict(label='LTM, eta 0', ratio=0.3, epochs=5)) for eta in (0.1, 0.3)),
    dict(text='Its sign matters (against eta -1)',
         ours=dict(label='LTM', ratio=0.3, epochs=5), theirs=dict(label='LTM, eta -1', ratio=0.3, epochs=5)),
    dict(text='Distillation from the vanilla model adds accuracy',
         ours=dict(label='LTM, distilled', ratio=0.3, epochs=5), theirs=dict(label='LTM', ratio=0.3, epochs=5)),
    dict(text='Learning normalisations, too, adds accuracy',
         ours=dict(label='LTM, norms learn', ratio=0.3, epochs=5), theirs=dict(label='LTM', ratio=0.3, epochs=5)),
]
