"""The paper's module against its rivals on the small ViT, with the power to see half a point.

4,000 test images, three seeds. Tokens flow on merged to the end, and all keep as many in every block. Images are of

    python tools/experiments/hold_out.py data/imagenette128 data/imagenette128_4000

which the vanilla model and its teacher were trained on, too, in batches of 256 at twice the learning rate. 'no step'
learns masks by the loss alone, 'by image' lets every image take its own step on the information-bottleneck bound, 'with
the layer' lets the tokens pass the learnt layer f(Z) = Z + Z W before; 'the paper as printed' is preset='paper'.
"""

config = 'ltm_vit_c_finetune_imagenette128'
vanilla = ['efficientvit_b0_imagenette128_60e', 'vit_c_imagenette128_distilled']
batch_sizes = (1, 16)

RATIOS, EPOCHS, SEEDS = (0.5, 0.3), 5, (0, 1, 2)
window, start = dict(window=8), dict(prior='partition')
rivals = dict(ToMe=0, ToFu=0, CubistMerge=0, AvgPool=0, LTMP=EPOCHS)
paper = 'LTM, the paper as printed'
STEPS = {
    'LTM, no step': dict(mode='static', eta=0., **start),
    'LTM, by image with the layer': dict(eta=1., **start),
    'LTM, by image': dict(eta=1., layer=False, **start),
}


def trained(label, merger, seeds=SEEDS, **kwargs):
    return dict(label=label, merger=merger, ratios=RATIOS, epochs=(EPOCHS, ), seeds=seeds, **kwargs)


methods = [
    *(dict(label=name, merger=dict(type=name, **window), ratios=(0.7, *RATIOS) if name == 'ToMe' else RATIOS,
           epochs=(0, ))
      for name, epochs in rivals.items() if not epochs),
    dict(label='LTM, no step', merger=dict(type='LTM', num_classes=10, **window, **STEPS['LTM, no step']),
         ratios=RATIOS, epochs=(0, )),
    *(trained(label, dict(type='LTM', num_classes=10, **window, **step)) for label, step in STEPS.items()),
    trained('LTMP', dict(type='LTMP')),
    trained(paper, dict(type='LTM', num_classes=10), overrides={'model.backbone.preset': 'paper'}),
]


def method(label, ratio, epochs=EPOCHS):
    return dict(label=label, ratio=ratio, epochs=epochs)


def beats(ours, theirs, ratio):
    ours, theirs = ((label, rivals.get(label, EPOCHS)) for label in (ours, theirs))
    return dict(text=f'At ratio {ratio}, {ours[0]} beats {theirs[0]}', ours=method(ours[0], ratio, ours[1]),
                theirs=method(theirs[0], ratio, theirs[1]))


best, plain, bare = 'LTM, by image with the layer', 'LTM, no step', 'LTM, by image'
pairs = [(best, 'ToMe'), (plain, 'ToMe'), (best, 'ToFu'), (best, 'LTMP'), (best, plain), (bare, plain), (best, bare),
         (best, paper)]
claims = [
    *(beats(*pair, ratio) for ratio in RATIOS for pair in pairs),
    *(dict(text=f'At batch {batch}, as fast as {ours} at ratio {ratio}, no ToMe is as accurate', latency=batch,
           ours=method(ours, ratio), theirs=[method('ToMe', other, 0) for other in (0.7, *RATIOS)])
      for ratio in RATIOS for ours in (best, plain) for batch in batch_sizes),
    dict(text='At ratio 0.5, LTM is at least as accurate as vanilla', ours=method(best, 0.5),
         theirs=dict(label='vanilla')),
    *(dict(text=f"At ratio 0.5, IB loss, layer by layer: {theirs['label']}'s is above {ours['label']}'s",
           quantity='ib_loss', ours=theirs, theirs=ours) for ours, theirs in (
               (method('ToMe', 0.5, 0), dict(label='vanilla')), (method('LTMP', 0.5), method('ToMe', 0.5, 0)),
               (method(best, 0.5), method('LTMP', 0.5)), (method(best, 0.5), dict(label='vanilla')),
               (method(best, 0.5), method('ToMe', 0.5, 0)), (method(best, 0.5), method(plain, 0.5)))),
    dict(text="At ratio 0.5, LTM's IB loss falls from layer to layer", quantity='ib_loss',
         ours=method(best, 0.5), theirs=method(best, 0.5)),
]
