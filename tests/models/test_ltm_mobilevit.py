import pytest
import torch
from mmpretrain.models.backbones import MobileViT

from mmltm.apis.profiling import count_macs
from mmltm.models import LTMMobileViT

ARCHS = ('xx_small', 'x_small', 'small')
#: Windows 7x7 -> 6x6 -> 5x5 -> 4x4 -> 3x3 at ratio 0.7; N x P logits in stages of two, four and three blocks.
LOGITS = [49 * 35, 35 * 24, 24 * 16, 16 * 12]


def gmacs(model, size=224):
    model = model.to('meta')
    model.eval()
    return count_macs(model, lambda: model(torch.empty(1, 3, size, size, device='meta')))[''] / 1e9


def vanilla_and(arch='xx_small', **kwargs):
    torch.manual_seed(0)
    vanilla = MobileViT(arch, out_indices=[1, 2, 3, 4])
    model = LTMMobileViT(arch, out_indices=(1, 2, 3, 4), **kwargs)
    return vanilla, model, model.load_state_dict(vanilla.state_dict(), strict=False)


@torch.no_grad()
@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('kwargs', [dict(ratio=1.0), dict(restore='none')])
def test_ratio_one_is_mmpretrains_to_the_bit(arch, kwargs):
    vanilla, model, mismatch = vanilla_and(arch, **kwargs)
    assert not mismatch.missing_keys and not mismatch.unexpected_keys
    x = torch.randn(2, 3, 70, 97)
    for mode in (True, False):
        vanilla.train(mode)
        assert model.train(mode) is model
        for mine, theirs in zip(model(x), vanilla(x), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize('arch', ARCHS)
def test_only_masks_are_missing_from_a_vanilla_checkpoint(arch):
    vanilla, model, mismatch = vanilla_and(arch, ratio=0.7)
    assert not mismatch.unexpected_keys and len(mismatch.missing_keys) >= 9
    assert all('.mergers.' in name for name in mismatch.missing_keys)
    grown = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in vanilla.parameters())
    assert grown == sum(sum(LOGITS[:depth]) for depth in (2, 4, 3))


@pytest.mark.parametrize('arch, vanilla, quotient', [('x_small', 0.772, 0.743), ('small', 1.521, 0.836)])
def test_classification_form_costs_no_more_than_the_papers(arch, vanilla, quotient):
    full = gmacs(MobileViT(arch))
    assert full == pytest.approx(vanilla, rel=0.01)
    none = gmacs(LTMMobileViT(arch, ratio=0.7, restore='none')) / full
    stage = gmacs(LTMMobileViT(arch, ratio=0.7, restore='stage')) / full
    assert none <= quotient and none < stage < 0.89


@torch.no_grad()
@pytest.mark.parametrize('size', [(32, 32), (33, 65), (130, 97)])
@pytest.mark.parametrize('restore', ['stage', 'none'])
def test_any_size_and_nominal_strides(size, restore):
    vanilla, model, _ = vanilla_and(ratio=0.7, restore=restore)
    vanilla.eval()
    x = torch.randn(1 + size[0] % 3, 3, *size)
    for output, nominal in zip(model.eval()(x), vanilla(x)):
        assert output.isfinite().all() and output.shape[:2] == nominal.shape[:2]
        assert output.shape == nominal.shape or restore == 'none'
    assert restore != 'none' or model(torch.randn(1, 3, 112, 112))[1].shape[-2:] == (8, 12)


@torch.no_grad()
def test_restored_maps_stay_close_to_vanilla():
    """Smooth images lose little by local averaging, and at each stage all of what is left comes back."""
    vanilla, model, _ = vanilla_and(ratio=0.7)
    vanilla.eval(), model.eval()
    x = torch.nn.functional.interpolate(torch.randn(2, 3, 4, 4), size=224, mode='bicubic')
    for mine, theirs in zip(model(x), vanilla(x)):
        assert (mine - theirs).norm() < 0.1 * (theirs - theirs.mean((2, 3), keepdim=True)).norm()


def test_groups_share_the_mask_of_their_image():
    """Tokens, masks and map agree on what lies where: merging in the block equals an explicit loop."""
    torch.manual_seed(0)
    model = LTMMobileViT('xx_small', ratio=0.7)
    block = model.layers[2][1].eval()
    x = torch.randn(2, 5, 13, 14)
    tokens, grid = block.unfold(x)
    assert grid == (7, 7) and tokens.shape == (8, 49, 5)
    resized = torch.nn.functional.interpolate(x, size=(14, 14), mode='bilinear', align_corners=False)
    torch.testing.assert_close(block.fold(tokens, grid, (14, 14)), resized)
    operator, _ = block.mergers[0](torch.empty(2, 4, 5, 7, 7))
    merged, size = block.merge_shortcut(x, [operator])
    assert merged.shape[-2:] == size == (10, 14)
    mask = operator.regions[0].merge
    for i in range(2):
        for j in range(2):
            expected = (resized[:, :, i::2, j::2].flatten(2) @ mask).reshape(2, 5, 5, 7)
            torch.testing.assert_close(merged[:, :, i::2, j::2], expected)


@pytest.mark.parametrize('indices, restore', [((4, ), 'none'), ((1, -1), 'stage'), ((-2, ), 'stage')])
def test_masks_learn(indices, restore):
    torch.manual_seed(0)
    model = LTMMobileViT('xx_small', ratio=0.5, out_indices=indices, restore=restore)
    sum(output.square().mean() for output in model(torch.randn(2, 3, 224, 224))).backward()
    masks = [parameter.grad for name, parameter in model.named_parameters() if '.mergers.' in name]
    assert masks and all(grad.isfinite().all() for grad in masks)
    assert restore == 'none' or all((grad != 0).any() for grad in masks)


def test_act_cfg_reaches_inner_blocks():
    model = LTMMobileViT('xx_small', ratio=0.7, act_cfg=dict(type='HSwish'))
    assert isinstance(model.layers[2][0].conv[0].activate, torch.nn.Hardswish)


@torch.no_grad()
def test_evaluation_does_not_depend_on_the_batch():
    _, model, _ = vanilla_and(ratio=0.7)
    x = torch.randn(4, 3, 96, 96)
    torch.testing.assert_close(model.eval()(x)[-1][1:2], model(x[1:2])[-1], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_pattern_comes_back_where_it_was():
    """A block without its shortcut answers to a spot where the spot is, so anchors and RoIs stay true."""
    torch.manual_seed(0)
    block = LTMMobileViT('xx_small', ratio=0.7).eval().layers[2][1]
    block.conv_fusion = None
    for y, x in [(5, 20), (27, 3)]:
        spot = torch.zeros(1, 48, 28, 28)
        spot[:, :, y, x] = 5
        response = (block(spot)[0] - block(torch.zeros_like(spot))[0]).abs().sum(1)[0]
        peak = divmod(response.argmax().item(), 28)
        assert abs(peak[0] - y) <= 1 and abs(peak[1] - x) <= 1


def test_statistics_take_patches_as_tokens():
    model = LTMMobileViT('xx_small', merger=dict(type='LTM', ratio=0.7, num_classes=3))
    mergers = [merger for layer in model.layers[2:] for merger in layer[1].mergers]
    for merger in mergers:
        merger.targets = torch.tensor([0, 2])
    model(torch.randn(2, 3, 64, 64))
    for merger in mergers[1:]:
        assert merger.stats.epoch_counts.tolist() == [1, 0, 1] and merger.stats.epoch_features.any()


@pytest.mark.parametrize('kwargs, message', [
    (dict(ratio=0), r'\(0, 1\]'), (dict(ratio=[0.7] * 3), '3 values for 9'), (dict(restore='x'), 'restore'),
    (dict(arch='tiny'), 'arch.*xx_small'), (dict(out_indices=(5, )), 'out_indices.*5'),
    (dict(out_indices=()), 'empty'), (dict(frozen_stages=6), 'frozen_stages.*6')])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LTMMobileViT(**kwargs)
