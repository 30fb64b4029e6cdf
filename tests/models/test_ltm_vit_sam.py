"""ViTDet's and SAM's backbone beyond what all backbones owe."""

from functools import partial

import pytest
import torch
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

from mmltm.errors import UserError
from mmltm.models import LTMViTSAM
from mmltm.models.families import FAMILIES

ARCH = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=96, global_attn_indexes=[1, 3])


def build(**kwargs):
    torch.manual_seed(0)
    return LTMViTSAM(ARCH, **{'img_size': 64, 'window_size': 3, 'out_channels': 8, **kwargs})


@torch.no_grad()
def test_features_of_timms_weights(randomize):
    """Of an image of the nominal size, with the epsilon of SAM's authors."""
    torch.manual_seed(0)
    timms = randomize(VisionTransformerSAM(
        img_size=64, patch_size=16, embed_dim=24, depth=4, num_heads=2, neck_chans=8, num_classes=0, window_size=3,
        use_rel_pos=True, global_attn_indexes=(1, 3), norm_layer=partial(nn.LayerNorm, eps=1e-6))).eval()
    state = timms.state_dict()
    names = FAMILIES['vit_sam'].layouts['timm'].rename(f'image_encoder.{key}' for key in state)
    renamed = {names[f'image_encoder.{key}'].removeprefix('backbone.'): value for key, value in state.items()}
    x = torch.randn(2, 3, 64, 64)
    for ratio in (None, 1.0):
        model = build(ratio=ratio).eval()
        model.load_state_dict(renamed)
        torch.testing.assert_close(model(x)[0], timms.forward_features(x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_plain_vits_positions_go_to_the_grid():
    model, embedding = build(), torch.randn(1, 17, 24)
    for given in (embedding, embedding[:, 1:]):
        model.load_state_dict(dict(pos_embed=given), strict=False)
        assert model.pos_embed.equal(embedding[:, 1:].unflatten(1, (4, 4)))


@torch.no_grad()
def test_global_blocks_attend_among_merged_tokens():
    seen = []
    for merge_attention in (True, False):
        model = build(ratio=0.5, merge_attention=merge_attention).eval()
        for layer in model.layers:
            if not layer.window_size:
                layer.attn.register_forward_hook(lambda module, args, output: seen.append(output.shape[1:3]))
        model(torch.randn(1, 3, 224, 224))
        for merger in model.mergers:
            merger.active = False
        model(torch.randn(1, 3, 224, 224))
    assert all(h * w <= 0.6 * 14 * 14 for h, w in seen[:2]) and seen[2:] == [(14, 14)] * 6


@torch.no_grad()
def test_no_absolute_positions_and_means():
    model = build(ratio=0.5, use_abs_pos=False, out_type='avg_featmap', frozen_stages=1)
    model.init_weights()
    assert model.eval()(torch.randn(2, 3, 80, 48))[0].shape == (2, 8) and model.pos_embed is None


@torch.no_grad()
@pytest.mark.parametrize('kind', ['ToMe', 'AvgPool', 'CubistMerge', 'SoftMerging', 'EViT', 'LTMP'])
def test_other_mergers(kind):
    merger = dict(type=kind, **({'p': 2} if kind == 'SoftMerging' else {'ratio': 0.6}))
    if kind in ('EViT', 'LTMP'):
        with pytest.raises(UserError, match='choose one of'):
            build(merger=merger)
        return
    vanilla, model = build().eval(), build(merger=merger).eval()
    model.load_state_dict(vanilla.state_dict(), strict=False)
    x = torch.randn(1, 3, 130, 97)
    assert model(x)[0].shape == vanilla(x)[0].shape and not model(x)[0].equal(vanilla(x)[0])


def test_a_mask_has_the_depth_of_its_layer():
    model = build(ratio=0.5)
    assert isinstance(model.mergers[3], nn.Module)
    assert model.get_layer_depth('backbone.mergers.3.logits', 'backbone.') == (4, 6)
