"""LTM and its rivals on MobileViT-XXS from one vanilla checkpoint, off the shelf and after masks-only training.

All bring their tokens back at the end of a stage, so that all work on as many of them: LTM, pooling and random merging on
8 x 8, 4 x 4 and 2 x 2 patches, those without a grid on as many tokens, or half where they can take no more away. LTMP keeps
all until its thresholds have learnt. EViT needs a class token.
"""

config = 'ltm_mobilevit_xxs_finetune_imagenette128'
vanilla = 'mobilevit_xxs_imagenette128'
overrides = {'model.backbone.restore': 'stage'}

ratios, epochs = (0.7, 0.5), (0, 3)
methods = [
    dict(label='LTM', merger=dict(type='LTM', num_classes=10), ratios=ratios, epochs=epochs),
    dict(label='LTM, eta 0', merger=dict(type='LTM', num_classes=10, eta=0.), ratios=(0.5, ), epochs=(3, )),
    dict(label='LTMP', merger=dict(type='LTMP'), ratios=ratios, epochs=epochs),
    *(dict(label=name, merger=dict(type=name), ratios=ratios, epochs=(0, ))
      for name in ('ToMe', 'ToFu', 'AvgPool', 'Random')),
    *(dict(label='SoftMerging', merger=dict(type='SoftMerging', p=p), epochs=(0, )) for p in (2, 4)),
    # Its projections are weights of linear layers, for which the rate of masks is far too large.
    dict(label='SoftMerging', merger=dict(type='SoftMerging', p=2), epochs=(3, ),
         overrides={'optim_wrapper.optimizer.lr': 1e-3}),
]


def beats(ours, theirs, ratio, ours_epochs=0, theirs_epochs=0):
    text = f'At ratio {ratio}, {ours} ({ours_epochs} epochs) beats {theirs} ({theirs_epochs} epochs)'
    return dict(text=text, ours=dict(label=ours, ratio=ratio, epochs=ours_epochs),
                theirs=dict(label=theirs, ratio=ratio, epochs=theirs_epochs))


claims = [
    claim for ratio in ratios for claim in (
        beats('LTM', 'LTMP', ratio, 3, 3), beats('LTM', 'ToFu', ratio, 3), beats('LTM', 'ToMe', ratio, 3),
        beats('LTM', 'AvgPool', ratio, 3), beats('LTM', 'Random', ratio), beats('ToFu', 'ToMe', ratio),
        beats('ToMe', 'AvgPool', ratio))
] + [
    dict(text='At ratio 0.5, the information-bottleneck step adds accuracy (3 epochs, against eta 0)',
         ours=dict(label='LTM', ratio=0.5, epochs=3), theirs=dict(label='LTM, eta 0', ratio=0.5, epochs=3)),
]
