"""All token mergers on all backbones that can use them."""

import copy
import math
from itertools import islice

import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer
from torch import nn

from mmltm.merging.ltmp import budget_loss
from mmltm.merging.sequences import History
from mmltm.models import TOKEN_MERGERS, LTMEfficientViT, LTMMobileViT, LTMSwin, LTMVisionTransformer
from mmltm.models.backbones.common import attend, attend_weighted

VIT = dict(embed_dims=24, num_layers=6, num_heads=2, feedforward_channels=48)
SWIN = dict(embed_dims=12, depths=[2, 1, 2, 1], num_heads=[1, 2, 2, 4])
BACKBONES = dict(
    vit=(LTMVisionTransformer, dict(arch=VIT, out_type='featmap')),
    swin=(LTMSwin, dict(arch=SWIN, drop_path_rate=0.)),
    mobilevit=(LTMMobileViT, dict(arch='xx_small')),
    efficientvit=(LTMEfficientViT, dict(arch='b0')))
SETTINGS = dict(
    Random=dict(ratio=0.6, seed=0),
    SoftMerging=dict(p=4),
    LTMP=dict(ratio=0.6, merge_threshold=0.9, prune_threshold=0.9))
#: All that are registered, those that other tests may have added aside.
MERGERS = {name: SETTINGS.get(name, dict(ratio=0.6)) for name in TOKEN_MERGERS.module_dict}
IMPOSSIBLE = {('EViT', 'mobilevit'), ('EViT', 'swin'), ('EViT', 'efficientvit'), ('LTMP', 'swin'),
              ('LTMP', 'efficientvit')}
PAIRS = [(merger, backbone) for merger in MERGERS for backbone in BACKBONES]


def build(backbone, merger=None, **kwargs):
    torch.manual_seed(0)
    type_, arguments = BACKBONES[backbone]
    config = dict(type=merger, **MERGERS[merger]) if isinstance(merger, str) else merger
    return type_(**{**arguments, 'merger': config, **kwargs})


def build_vit(**kwargs):
    torch.manual_seed(0)
    return LTMVisionTransformer(VIT, **kwargs)


@pytest.mark.parametrize('merger, backbone', [pair for pair in PAIRS if pair not in IMPOSSIBLE])
def test_forward_and_backward(merger, backbone):
    vanilla, model = build(backbone), build(backbone, merger)
    mismatch = model.load_state_dict(vanilla.state_dict(), strict=False)
    assert not mismatch.unexpected_keys and all('mergers.' in name for name in mismatch.missing_keys)
    x = torch.randn(2, 3, 130, 97)
    with torch.no_grad():
        nominal = vanilla.eval()(x)[-1]
        output = model.eval()(x)[-1]
        assert output.shape == nominal.shape and output.isfinite().all() and not torch.equal(output, nominal)
        torch.testing.assert_close(copy.deepcopy(model)(x)[-1], output)
    output = model.train()(x)[-1]
    assert output.shape == nominal.shape
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert 'mergers.' not in name or parameter.grad.any(), name


@pytest.mark.parametrize('merger, backbone', sorted(IMPOSSIBLE))
def test_impossible_pairs_are_refused_in_one_line(merger, backbone):
    with pytest.raises(ValueError, match=rf'merger {merger} .*choose one of LTM, .*Random') as error:
        build(backbone, merger)
    message = str(error.value)
    assert '\n' not in message
    named = message.split('choose one of ')[1].split(', ')
    usable = {name for name in MERGERS if (name, backbone) not in IMPOSSIBLE}
    assert usable == {*named}


def test_class_tokens_are_asked_for():
    with pytest.raises(ValueError, match='merger EViT needs a class token'):
        build('vit', 'EViT', with_cls_token=False)
    assert build('vit', 'LTMP', with_cls_token=False)(torch.randn(1, 3, 64, 64))[0].isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize('merger', sorted({*MERGERS} - {'SoftMerging'}))
def test_ratio_one_is_vanilla_to_the_bit(merger):
    vanilla, model = build('vit'), build_vit(out_type='featmap', merger=dict(type=merger, ratio=1.0))
    assert model.state_dict().keys() == vanilla.state_dict().keys()
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(x)[0], vanilla(x)[0])


@torch.no_grad()
@pytest.mark.parametrize('kwargs', [
    dict(), dict(layer_scale_init_value=0.1), dict(drop_rate=0.2, drop_path_rate=0.3)])
def test_attention_without_weights_is_mmpretrains_to_the_bit(kwargs):
    torch.manual_seed(0)
    layer = VisionTransformer(VIT, **kwargs).layers[-1]
    x = torch.randn(2, 9, 24)
    for mode in (True, False):
        layer.train(mode)
        torch.manual_seed(1)
        expected = attend(layer, x)
        torch.manual_seed(1)
        assert torch.equal(attend_weighted(layer, x, None, False)[0], expected)


def test_tokens_with_weights_attend_as_so_many_copies():
    """Weight 3 is three equal tokens, weight 0 none, by fused attention and by explicit scores."""
    torch.manual_seed(0)
    layer = VisionTransformer(VIT).layers[0].double()
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    copies = x[:, [0, 1, 1, 1, 2, 4, 4]]
    expected = attend(layer, copies)[:, [0, 1, 4, 5]]
    weights = torch.tensor([[1., 3., 1., 0., 2.]]).expand(2, 5)
    for explicit, grad in ((False, False), (True, False), (False, True)):
        output, attention = attend_weighted(layer, x, weights.clone().requires_grad_(grad), explicit)
        torch.testing.assert_close(output[:, [0, 1, 2, 4]], expected)
        if explicit or grad:
            scores = attention.scores
            torch.testing.assert_close(scores.sum(-1), torch.ones_like(scores[..., 0]))
            assert (scores[..., 3] == 0).all()


def test_masked_tokens_leave_gradients_bounded():
    """A token that is masked, and would outweigh all others by far, does not blow up the gradient of its weight."""
    torch.manual_seed(0)
    layer = VisionTransformer(VIT).layers[0]
    layer.attn.qkv.weight.data *= 300
    x = torch.randn(2, 5, 24)
    weights = torch.tensor([[1., 1., 1., 0., 1.]]).expand(2, 5).clone().requires_grad_()
    _, attention = attend_weighted(layer, x, None, True)
    masked = attention.scores[..., 3].max()
    assert masked > 0.999, 'it would outweigh the others'
    output, _ = attend_weighted(layer, x, weights, True)
    assert torch.autograd.grad(output.sum(), weights)[0].abs().max() < 1e3


def counts_of(model, x):
    """Tokens that the MLP of every layer sees."""
    counts = []
    handles = [layer.register_forward_pre_hook(lambda module, args: counts.append(args[0].shape[1]))
               for name, layer in model.named_modules() if name.endswith('.ffn')]
    with torch.no_grad():
        model.eval()(x)
    for handle in handles:
        handle.remove()
    return counts


@pytest.mark.parametrize('merger', ['ToMe', 'ToFu', 'EViT', 'AvgPool', 'CubistMerge', 'Random'])
@pytest.mark.parametrize('size', [(112, 112), (144, 260)])
def test_all_mergers_leave_as_many_tokens_as_ltm(merger, size):
    x = torch.randn(2, 3, *size)
    theirs = counts_of(build_vit(ratio=0.6), x)
    assert counts_of(build_vit(merger=dict(type=merger, ratio=0.6)), x) == theirs
    assert theirs[-1] < theirs[0] <= 1 + size[0] * size[1] // 256


@torch.no_grad()
@pytest.mark.parametrize('merger', ['ToMe', 'ToFu'])
@pytest.mark.parametrize('ratio, size', [(0.7, (256, 256)), (0.7, (130, 97)), (0.5, (128, 128)), (0.5, (224, 320))])
def test_every_stage_leaves_as_many_tokens_as_ltm(merger, ratio, size):
    """Or half of what a block sees, if LTM leaves less, until the blocks behind have caught up."""
    x, depths = torch.randn(1, 3, *size), (2, 4, 3)
    theirs = iter(counts_of(build('mobilevit', ratio=ratio, restore='stage'), x))
    expected = []
    for stage, depth in enumerate(depths):
        left = math.prod(-(-side // (16 << stage)) for side in size)
        for wanted in islice(theirs, depth):
            left = min(left, max(wanted, left - left // 2))
            expected.append(left)
    model = build('mobilevit', merger=dict(type=merger, ratio=ratio), restore='none')
    assert counts_of(model, x) == expected
    assert model(x)[-1].shape == build('mobilevit').eval()(x)[-1].shape


@torch.no_grad()
def test_later_layers_of_a_stage_attend_by_size():
    """A block of MobileViT by hand: two layers, ToMe in each, and copies at the end."""
    model = build('mobilevit', dict(type='ToMe', ratio=0.7)).eval()
    block = model.layers[2][1]
    x = torch.randn(2, 48, 28, 28)
    tokens, grid = block.unfold(block.local_rep(x))
    assert tokens.shape[:2] == (8, 196)
    history = History.whole(tokens)
    for index, (layer, keep) in enumerate(zip(block.global_rep, (140, 96))):
        tokens, attention = attend_weighted(layer, tokens, history.sizes if index else None, False)
        tokens, history = block.mergers[index](tokens, attention, history, keep, False)
        tokens = layer.ffn(layer.ln2(tokens), identity=tokens)
    assert tokens.shape[1] == 96 and history.sizes.max() > 1
    full = block.fold(block.global_rep[-1](history.restore(tokens)), grid, (28, 28))
    torch.testing.assert_close(block(x)[0], block.fuse(x, full))


@pytest.mark.parametrize('merger', ['ToMe', 'ToFu', 'EViT'])
def test_r_tokens_leave_in_every_block_but_the_last(merger):
    counts = counts_of(build_vit(merger=dict(type=merger, r=7)), torch.randn(1, 3, 112, 112))
    assert counts == [43, 36, 29, 22, 15, 15]


def test_soft_merging_at_its_position():
    x = torch.randn(1, 3, 112, 96)
    assert counts_of(build_vit(merger=dict(type='SoftMerging', position=2, p=4)), x) == [43, 43, 13, 13, 13, 13]
    assert counts_of(build_vit(merger=dict(type='SoftMerging', position=[0, 3])), x) == [22, 22, 22, 15, 15, 15]
    for backbone, count in (('swin', 6), ('mobilevit', 3), ('efficientvit', 2)):
        mergers = [module for module in build(backbone, 'SoftMerging').modules()
                   if isinstance(module, TOKEN_MERGERS.get('SoftMerging'))]
        assert len(mergers) == count


@torch.no_grad()
@pytest.mark.parametrize('merger', ['ToMe', 'ToFu', 'EViT', 'LTMP'])
def test_patterns_come_back_where_they_were(merger):
    """Layers that add nothing: what differs from token to token is where it was, but for those that were fused."""
    vanilla, model = build('vit', final_norm=False), build('vit', merger, final_norm=False)
    if merger == 'LTMP':
        for block in model.mergers[:-1]:
            block.prune_threshold.fill_(1.)
    for module in (*vanilla.modules(), *model.modules()):
        if isinstance(module, nn.Linear):
            module.weight.zero_(), module.bias.zero_()
    model.load_state_dict(vanilla.state_dict(), strict=False)
    vanilla.eval(), model.eval()
    x = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 4), size=224)
    full, back = vanilla(x)[0], model(x)[0]
    same = ((full - back).abs().amax(1) < 1e-5).float().mean()
    assert same > (0.2 if merger != 'LTMP' else 0.99)


@torch.no_grad()
@pytest.mark.parametrize('class_token', [True, False])
def test_the_mean_counts_tokens_as_often_as_went_into_them(class_token):
    x = torch.randn(2, 3, 112, 112)
    model = build('vit', 'ToMe', out_type='avg_featmap', with_cls_token=class_token, restore='none').eval()
    copies = build('vit', 'ToMe', out_type='avg_featmap', with_cls_token=class_token, restore='stage').eval()
    torch.testing.assert_close(model(x)[0], copies(x)[0])


@torch.no_grad()
def test_thresholds_shorten_single_images():
    model = build('vit', 'LTMP').eval()
    x = torch.randn(3, 3, 112, 112)
    counts = counts_of(model, x[:1])
    assert counts[-1] < counts[0] <= 50
    together = model(x)[0]
    for image, output in zip(x, together):
        torch.testing.assert_close(model(image[None])[0][0], output, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('backbone, kwargs', [
    ('vit', {}), ('mobilevit', {}), ('vit', dict(out_type='avg_featmap', restore='none'))])
def test_masked_training_is_evaluation(backbone, kwargs):
    """Without dropout and batch statistics, masks give the outputs that dropping gives."""
    model = build(backbone, 'LTMP', **kwargs).eval()
    mergers = [module for module in model.modules() if isinstance(module, TOKEN_MERGERS.get('LTMP'))]
    x = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        left, counts = model(x)[0], counts_of(model, x)
        assert counts[-1] < counts[0] < 196
    for merger in mergers:
        merger.train()
    torch.testing.assert_close(model(x)[0], left, atol=1e-4, rtol=1e-4)
    loss = budget_loss(model)
    assert loss.requires_grad and loss > 0


@pytest.mark.parametrize('backbone', ['vit', 'mobilevit'])
def test_thresholds_learn_to_keep_to_the_budget(backbone):
    model = build(backbone, merger=dict(type='LTMP', ratio=0.6))
    thresholds = [parameter for name, parameter in model.named_parameters() if 'mergers.' in name]
    optimizer = torch.optim.Adam(thresholds, lr=0.05)
    x = torch.randn(2, 3, 80, 80)
    for _ in range(40):
        optimizer.zero_grad()
        model(x)
        loss = budget_loss(model)
        loss.backward()
        optimizer.step()
    assert loss < 0.1**2
    assert sum(counts_of(model, x)) < 0.8 * sum(counts_of(build(backbone), x))


@pytest.mark.parametrize('merger, backbone', [
    ('ToMe', 'vit'), ('EViT', 'vit'), ('LTMP', 'vit'), ('ToMe', 'mobilevit'), ('LTMP', 'mobilevit')])
def test_recomputed_activations_change_no_gradient(merger, backbone):
    grads = []
    for with_cp in (False, True):
        model = build(backbone, merger, with_cp=with_cp)
        torch.manual_seed(1)
        model(torch.randn(2, 3, 96, 64, requires_grad=True))[0].square().mean().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize('kwargs, message', [
    (dict(merger=dict(type='ToMe')), "lacks 'ratio'"),
    (dict(merger=dict(type='ToMe', r=3, ratio=0.5)), 'ratio=0.5 and r=3'),
    (dict(merger=dict(type='ToMe', r=-1)), 'r must.*-1'),
    (dict(merger=dict(type='AvgPool', r=3)), 'AvgPool takes no r.*r=3'),
    (dict(merger=dict(type='LTMP', r=3, ratio=0.5)), 'LTMP takes no r.*r=3'),
    (dict(merger=dict(type='ToMe', r=3), restore='none', out_type='featmap'), 'ToMe.*keeps no grid.*featmap'),
    (dict(merger=dict(type='ToMe', ratio=[0.3] * 6)), 'ToMe leaves at least 0.5.*0.3'),
    (dict(merger=dict(type='LTMP', ratio=[0.5] * 6)), 'LTMP.*one number'),
    (dict(merger=dict(type='LTMP', ratio=1.5)), r'\(0, 1\].*1.5'),
    (dict(merger=dict(type='SoftMerging', ratio=0.5)), 'SoftMerging takes no ratio.*takes p'),
    (dict(merger=dict(type='SoftMerging', p=3)), 'p must.*3'),
    (dict(merger=dict(type='SoftMerging', position=5)), r'position must be in \[0, 4\].*5')])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LTMVisionTransformer(VIT, **kwargs)


def test_r_is_refused_in_windows():
    with pytest.raises(ValueError, match='r=3.*windows.*ratio'):
        LTMSwin(SWIN, merger=dict(type='ToMe', r=3))
