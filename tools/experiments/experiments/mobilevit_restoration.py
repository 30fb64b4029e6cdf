"""MobileViT-XXS off the shelf, its maps brought back to their size behind every stage or flowing on merged.

Trained without merging, its convolutions need maps of the size that they have learnt on. With restoration ('LTM')
tokens matter little: even merging all of a stage to one costs few points, which makes a weak bed for telling mergers
apart.
"""

config = 'ltm_mobilevit_xxs_finetune_imagenette128'
vanilla = 'mobilevit_xxs_imagenette128'

flowing = {'model.backbone.restore': 'none'}
ltm, one = dict(type='LTM', num_classes=10), dict(type='AvgPool', window=8)
methods = [
    dict(label='LTM', merger=ltm, ratios=(0.7, 0.5, 0.3), epochs=(0, )),
    dict(label='one token', merger=one, ratios=(0.0001, ), epochs=(0, )),
    dict(label='LTM, flowing on', merger=ltm, ratios=(0.7, 0.5, 0.3), epochs=(0, ), overrides=flowing),
    dict(label='one token, flowing on', merger=one, ratios=(0.0001, ), epochs=(0, ), overrides=flowing),
]
claims = [
    dict(text='At ratio 0.7, weights trained without merging need restoration',
         ours=dict(label='LTM', ratio=0.7), theirs=dict(label='LTM, flowing on', ratio=0.7)),
    dict(text='With restoration, tokens at ratio 0.5 are better than one token',
         ours=dict(label='LTM', ratio=0.5), theirs=dict(label='one token', ratio=0.0001)),
]
