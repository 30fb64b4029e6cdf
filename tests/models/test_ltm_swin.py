import pytest
import torch
from mmpretrain.models.backbones import SwinTransformer

from mmltm.apis.profiling import count_macs
from mmltm.models import LTMSwin
from mmltm.models.backbones.ltm_swin import LTMSwinStage

SMALL = dict(embed_dims=12, depths=[2, 1, 2, 1], num_heads=[1, 2, 2, 4])


def build(type_=LTMSwin, arch=SMALL, **kwargs):
    torch.manual_seed(0)
    return type_(arch=arch, **{'drop_path_rate': 0.0, **kwargs})


def vanilla_and(**kwargs):
    vanilla = build(SwinTransformer, out_indices=(0, 1, 2, 3), pad_small_map=True)
    # Small models at their start hardly differ from the identity.
    with torch.no_grad():
        for parameter in vanilla.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model = build(out_indices=(0, 1, 2, 3), pad_small_map=True, **kwargs)
    return vanilla, model, model.load_state_dict(vanilla.state_dict(), strict=False)


def one_block(block, merger):
    return LTMSwinStage(torch.nn.ModuleList([block]), None, torch.nn.ModuleList([merger]), with_cp=False)


def gmacs(model, size=224):
    model = model.to('meta')
    model.eval()
    return count_macs(model, lambda: model(torch.empty(1, 3, size, size, device='meta')))[''] / 1e9


@torch.no_grad()
@pytest.mark.parametrize('kwargs', [dict(ratio=1.0), dict()])
@pytest.mark.parametrize('size', [(224, 224), (70, 97)])
def test_ratio_one_is_mmpretrains_to_the_bit(kwargs, size):
    vanilla, model, mismatch = vanilla_and(**kwargs)
    assert not mismatch.missing_keys and not mismatch.unexpected_keys
    x = torch.randn(2, 3, *size)
    for mode in (True, False):
        vanilla.train(mode)
        assert model.train(mode) is model
        for mine, theirs in zip(model(x), vanilla(x), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize('arch, vanilla, quotient', [
    ('tiny', 4.49, 0.849), ('small', 8.74, 0.838), ('base', 15.43, 0.832)])
def test_variants(arch, vanilla, quotient):
    """Names, sizes and cost; the quotient of -T is the paper's. That of -B, 0.779, takes a ratio of 0.63."""
    model, full = LTMSwin(arch, ratio=0.7), SwinTransformer(arch)
    own = {name: value.shape for name, value in model.state_dict().items()}
    for name, value in full.state_dict().items():
        assert own.pop(name) == value.shape
    blocks = sum(model.depths)
    assert len(own) >= blocks and all('.mergers.' in name for name in own)
    grown = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in full.parameters())
    targets = [merger.target for stage in model.stages for merger in stage.mergers]
    assert set(targets) == {(5, 7), (7, 5)} and grown == sum(49 * h * w for h, w in targets)
    assert sum(h * w for h, w in targets) / (49 * blocks) == pytest.approx(0.7, abs=0.02)
    cost = gmacs(full)
    assert cost == pytest.approx(vanilla, rel=0.01)
    assert gmacs(model) <= quotient * cost


@torch.no_grad()
@pytest.mark.parametrize('grid', [(14, 14), (9, 16), (4, 5)])
def test_mlp_sees_merged_tokens_and_only_its_update_comes_back(grid):
    """The block equals x + U mlp(G^T x), written with the operator's own steps."""
    model = build(ratio=0.5).eval()
    block, merger = model.stages[0].blocks[0], model.stages[0].mergers[0]
    x = torch.randn(2, grid[0] * grid[1], 12)
    block.attn.w_msa.proj.weight.zero_()
    block.attn.w_msa.proj.bias.zero_()
    block.attn.pad_small_map = True
    out, _ = one_block(block, merger)(x, grid)
    full = x.mT.reshape(2, 12, *grid)
    operator, _ = merger(full, None)
    merged = operator.merge(full)
    tokens = merged.flatten(2).mT
    update = (block.ffn(block.norm2(tokens), identity=tokens) - tokens).mT.reshape(merged.shape)
    assert merged.shape[-2] < grid[0]
    torch.testing.assert_close(out, (full + operator.unmerge(update)).flatten(2).mT, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('indices, after', [
    ((3, ), False), ((0, -2), False), (1, True), ((0, 1, 2, 3), True)])
def test_every_parameter_learns(indices, after):
    model = build(ratio=0.5, out_indices=indices, out_after_downsample=after)
    outputs = model(torch.randn(1, 3, 224, 224))
    assert len(outputs) == len(model.out_indices)
    # The mean square of a normalised map does not depend on what comes before the norm.
    sum((output * torch.randn_like(output)).mean() for output in outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert '.mergers.' not in name or (parameter.grad != 0).any(), name


@torch.no_grad()
@pytest.mark.parametrize('size', [(33, 65), (64, 250)])
def test_small_maps_are_padded_as_if_asked_for(size):
    """Without shifted windows, for those make the difference on a map as large as a window."""
    arch = dict(SMALL, depths=[1, 1, 1, 1])
    x = torch.randn(2, 3, *size)
    outputs = [build(arch=arch, ratio=0.5, out_indices=(0, 1, 2, 3), pad_small_map=pad).eval()(x)
               for pad in (False, True)]
    torch.testing.assert_close(*outputs)


def test_norms_of_their_own():
    blocks = [dict(norm_cfg=dict(type='LN', eps=1e-2)), dict()]
    model = build(
        arch=dict(SMALL, depths=[2, 2, 2, 2]), norm_cfg=dict(type='LN', eps=1e-3), patch_cfg=dict(norm_cfg=None),
        stage_cfgs=dict(block_cfgs=blocks))
    first, second = model.stages[0].blocks
    assert (first.norm2.eps, second.norm1.eps, model.stages[0].downsample.norm.eps) == (1e-2, 1e-3, 1e-3)
    assert model.patch_embed.norm is None
    assert isinstance(build(norm_cfg=None).norm3, torch.nn.Identity)


def test_stochastic_depth_drops_images_not_windows():
    model = build(ratio=0.5, drop_path_rate=0.5)
    block, merger = model.stages[3].blocks[-1], model.stages[3].mergers[-1]
    block.attn.drop = torch.nn.Identity()
    block.attn.w_msa.proj.weight.data.zero_()
    block.attn.w_msa.proj.bias.data.zero_()
    x = torch.randn(16, 14 * 14, 96)
    change = (one_block(block, merger)(x, (14, 14))[0] - x).abs().amax(-1) > 1e-6
    assert (change.all(1) | ~change.any(1)).all() and 0 < change.any(1).sum() < 16


def test_statistics_without_merging_see_all_tokens():
    """Nothing is pending from the block before, for that has brought its tokens back."""
    model = build(merger=dict(type='LTM', ratio=0.7, num_classes=2), pad_small_map=True)
    carries = []
    for stage in model.stages:
        for merger in stage.mergers:
            merger.active, merger.targets = False, torch.tensor([0, 1])
            merger.register_forward_hook(lambda module, inputs, output: carries.append(output))
    model(torch.randn(2, 3, 64, 64))
    assert len(carries) == 6
    assert all(operator is None and len(carry.pending) == 1 for operator, carry in carries)


def test_old_checkpoints_load():
    vanilla, model, _ = vanilla_and()
    old = dict(vanilla.state_dict())
    for name in ('weight', 'bias'):
        old[f'norm.{name}'] = old.pop(f'norm3.{name}')
    old['stages.0.blocks.1.attn.attn_mask'] = torch.zeros(1)
    model = build(out_indices=(3, ))
    missing, unexpected = model.load_state_dict(old, strict=False)
    assert not missing and all(name.startswith('norm') for name in unexpected)


def test_layers_of_masks_are_those_of_their_blocks():
    model = build(ratio=0.7)
    mask, block = ('stages.2.mergers.1.logits', 'stages.2.blocks.1.norm1.weight')
    assert model.get_layer_depth(mask) == model.get_layer_depth(block)


@pytest.mark.parametrize('kwargs, message', [
    (dict(ratio=0), r'\(0, 1\]'), (dict(ratio=[0.7] * 3), '3 values for 12'), (dict(arch='x'), 'arch.*tiny'),
    (dict(out_indices=(4, )), 'out_indices.*4'), (dict(frozen_stages=4), 'frozen_stages.*4')])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LTMSwin(**kwargs)
