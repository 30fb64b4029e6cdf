"""What detectors need of every backbone: maps in place, any input size, no leak of padding, linear cost."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import MobileViT, SwinTransformer, SwinTransformerV2, VisionTransformer, ViTSAM
from torch import nn

from mmltm.apis.profiling import count_macs
from mmltm.models import (
    EfficientViT,
    LTMEfficientViT,
    LTMMobileViT,
    LTMSwin,
    LTMSwinV2,
    LTMVisionTransformer,
    LTMViTSAM,
)

SWIN = dict(embed_dims=12, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 4])
VIT = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
#: Vanilla backbone, its twin with merging, arguments of both, and the last layer of their attention.
BACKBONES = dict(
    efficientvit=(EfficientViT, LTMEfficientViT, dict(arch='b0', out_indices=(1, 2, 3, 4)), 'context.proj.bn'),
    mobilevit=(MobileViT, LTMMobileViT, dict(arch='xx_small', out_indices=(0, 1, 2, 3, 4)), 'attn.proj'),
    swin=(SwinTransformer, LTMSwin, dict(arch=SWIN, out_indices=(0, 1, 2, 3), pad_small_map=True), 'w_msa.proj'),
    swin_v2=(SwinTransformerV2, LTMSwinV2,
             dict(arch=dict(SWIN, extra_norm_every_n_blocks=0), out_indices=(0, 1, 2, 3), pad_small_map=True),
             'w_msa.proj'),
    vit=(VisionTransformer, LTMVisionTransformer, dict(arch=VIT, out_type='featmap', out_indices=[1, 3]),
         'attn.proj'),
    vit_sam=(ViTSAM, LTMViTSAM, dict(arch=dict(VIT, global_attn_indexes=[1, 3]), out_channels=0, window_size=7,
                                     out_indices=[1, 3]), 'attn.proj'))
GROWING = ((224, 224), (320, 320), (448, 448), (640, 640), (800, 1344))

every_backbone = pytest.mark.parametrize('name', BACKBONES)


def images(batch, size, seed=0):
    """Smooth random images: in white noise a mean of neighbours would be next to nothing."""
    coarse = torch.randn(batch, 3, size[0] // 16, size[1] // 16, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=size, mode='bilinear')


@torch.no_grad()
def twins(name, ratio):
    """Vanilla and merging backbone with the same weights, whose normalisation fits the images."""
    vanilla_type, type_, kwargs, _ = BACKBONES[name]
    torch.manual_seed(0)
    vanilla, model = vanilla_type(**kwargs), type_(ratio=ratio, **kwargs)
    for parameter in vanilla.parameters():
        if parameter.dim() > 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    vanilla.train()
    for module in vanilla.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    vanilla(images(2, (224, 224)))
    missing, unexpected = model.load_state_dict(vanilla.state_dict(), strict=False)
    assert missing and all('mergers.' in key for key in missing) and not unexpected
    vanilla.eval()  # mmpretrain's MobileViT and SwinTransformer do not return themselves
    return vanilla, model.eval()


@torch.no_grad()
def silence_attention(name, model):
    """Attention adds nothing, positions neither: what is left of the vanilla backbones sees so far and no further."""
    last = [module for key, module in model.named_modules() if key.endswith(BACKBONES[name][-1])]
    assert last
    for parameter in [p for module in last for p in module.parameters()]:
        parameter.zero_()
    if name.startswith('vit'):
        model.pos_embed.zero_()


def masks(model):
    return [parameter for key, parameter in model.named_parameters() if key.endswith('logits')]


def learn(model):
    """One step of the masks, at 224 pixels, long enough to turn entries."""
    model.train()
    optimizer = torch.optim.Adam(masks(model), lr=1.5)
    outputs = model(images(2, (224, 224)))
    sum((output * torch.randn_like(output)).mean() for output in outputs).backward()
    optimizer.step()
    return model.eval()


def scale(x):
    return x.square().mean().sqrt().item()


@torch.no_grad()
def changes(model, image, padding, more):
    """How the features of ``image``, padded on the right, change with ``more`` padding: pairs of before and after."""
    height, width = image.shape[-2:]
    pairs = zip(model(F.pad(image, (0, padding))), model(F.pad(image, (0, padding + more))))
    return [(a[..., :width * a.shape[-2] // height], b[..., :width * b.shape[-2] // height]) for a, b in pairs]


@every_backbone
@pytest.mark.parametrize('upright', [False, True])
def test_padding_does_not_leak(name, upright):
    """One more window of padding changes nothing in an image that ends 1088 pixels before it, vanilla or not.

    Attention over the whole image, of all but Swin, is silenced, as the vanilla backbones leak by it. A window of the
    last stage of MobileViT, seven patches of two pixels at stride 32, is 448 pixels. A token mixes with its window,
    so a backbone with merging sees a window further than its vanilla form, and padding nearer than that is seen. At the
    end of a map that is two windows, where a remainder too short to shrink has joined one.
    """
    for model in twins(name, ratio=0.5):
        if name != 'swin':
            silence_attention(name, model)
        if masks(model):
            learn(model)
        image = images(1, (64, 192))
        if upright:
            forward = model.forward
            model.forward = lambda x, forward=forward: [y.mT for y in forward(x.mT)]
        for before, after in changes(model, image, padding=1088, more=448):
            assert (before - after).abs().max() < 1e-4 * scale(before)


@pytest.mark.parametrize('name', ['efficientvit', 'mobilevit', 'vit'])
def test_padding_leaks_through_attention_no_more_than_in_the_vanilla_backbone(name):
    """Global attention takes padding for image; merging must not make that worse.

    The leak is relative to the features. A merged token is a mean, which layer normalisation scales up again, and
    with it what has leaked into all tokens alike: by 1.13 at most here, the less the more neighbours agree.
    """
    leaks = []
    for model in twins(name, ratio=0.7):
        pairs = changes(model, images(3, (128, 320)), padding=192, more=448)
        leaks.append([scale(before - after) / scale(before) for before, after in pairs])
    for vanilla, merging in zip(*leaks):
        assert merging <= 1.2 * vanilla + 1e-4


@every_backbone
@torch.no_grad()
def test_a_pixel_comes_back_at_its_place_in_every_level(name):
    """Within a cell of its own, or as near as in the vanilla backbone, whose strides put it between two cells."""
    size, places = (224, 288), [(5, 9), (40, 168), (117, 223), (219, 270), (63, 31)]
    base = images(1, size)
    lit = base.repeat(len(places), 1, 1, 1)
    for image, (y, x) in zip(lit, places):
        image[:, y, x] += 5
    distances = []
    for model in twins(name, ratio=0.7):
        silence_attention(name, model)
        distances.append([])
        for dark, light in zip(model(base), model(lit)):
            stride = size[0] / dark.shape[-2]
            for energy, place in zip((light - dark).square().sum(1), places):
                peak = divmod(energy.argmax().item(), energy.shape[1])
                away = [abs(p + 0.5 - (q + 0.5) / stride) - 0.5 for p, q in zip(peak, place)]
                distances[-1].append(max(away))
    for vanilla, merging in zip(*distances):
        assert merging <= max(1, vanilla)


@every_backbone
@torch.no_grad()
def test_masks_learnt_at_224_serve_any_size(name):
    vanilla, model = twins(name, ratio=0.7)
    with torch.enable_grad():
        learnt = learn(copy.deepcopy(model))
    for size in ((320, 320), (225, 321), (97, 65)):
        x = torch.randn(2, 3, *size)
        outputs, untrained = learnt(x), model(x)
        for output, reference in zip(outputs, vanilla(x), strict=True):
            assert output.shape == reference.shape and output.isfinite().all()
        assert not torch.equal(outputs[-1], untrained[-1])
    vanilla, learnt = vanilla.to('meta'), learnt.to('meta')
    x = torch.empty(2, 3, 800, 1333, device='meta')
    assert [output.shape for output in learnt(x)] == [output.shape for output in vanilla(x)]


@every_backbone
@torch.no_grad()
def test_merging_costs_the_same_a_pixel_at_every_size(name):
    """Products of merging and of the way back, of a first merge, against those of a map of whole windows."""
    model = twins(name, ratio=0.7)[1].to('meta')
    merger = next(module for module in model.modules() if hasattr(module, 'logits'))
    channels = 12

    def macs_per_token(grid):
        x = torch.empty(1, channels, *grid, device='meta')

        def there_and_back():
            operator = merger(x)[0]
            merged = operator.merge(x)
            return operator.restore(x, merged, merged)

        return count_macs(merger, there_and_back)[''] / (grid[0] * grid[1])

    side = merger.source[0]  # 7, or 8
    whole = macs_per_token((8 * side, 8 * side))
    for grid in ((1, 1), (2, 2), (3 + 4 / side, 6), (16, 16), (28 + 4 / side, 48)):
        assert macs_per_token(tuple(round(windows * side) for windows in grid)) <= 1.01 * whole
    # Seven windows and one cell, which joins the window before it, whose matrix, of 8 by 6 rows, is larger.
    assert macs_per_token((7 * side + 1, 12 * side)) <= 1.04 * whole


def quotients(name, arch, sizes):
    """Multiply-accumulates with merging at ratio 0.7 over those without, at each of ``sizes``."""
    vanilla_type, type_ = BACKBONES[name][:2]
    vanilla, model = vanilla_type(arch=arch).to('meta'), type_(arch=arch, ratio=0.7).to('meta').eval()
    vanilla.eval()
    inputs = [torch.empty(1, 3, *size, device='meta') for size in sizes]
    return [count_macs(model, partial(model, x))[''] / count_macs(vanilla, partial(vanilla, x))[''] for x in inputs]


@pytest.mark.parametrize('arch, slack', [('b0', 0.013), ('b1', 0)])
def test_share_of_the_cost_does_not_rise_with_the_input(arch, slack):
    """B0, of few channels, pays for the zeros of rows of windows that are merged as a whole (``collapse``)."""
    first, *others = quotients('efficientvit', arch, GROWING)
    assert max(others) <= first + slack


@pytest.mark.parametrize('name, arch, limit', [('efficientvit', 'b1', 0.87), ('swin', 'tiny', 0.88)])
def test_cost_at_the_size_of_detection(name, arch, limit):
    assert quotients(name, arch, GROWING[-1:])[0] <= limit
