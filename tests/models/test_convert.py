"""Converted weights compute what they compute where they come from."""

import re

import pytest
import timm
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint

import mmltm
from mmltm.errors import UserError
from mmltm.models import LTMSwin
from mmltm.models.builder import build_model as build
from mmltm.models.checkpoints import compare
from mmltm.models.convert import convert, write_checkpoint

TIMM = dict(
    mobilevit_xxs='mobilevit_xxs', mobilevit_xs='mobilevit_xs', mobilevit_s='mobilevit_s',
    efficientvit_b0='efficientvit_b0', efficientvit_b1='efficientvit_b1', efficientvit_b2='efficientvit_b2',
    efficientvit_b3='efficientvit_b3', vit_t='deit_tiny_patch16_224', vit_s='vit_small_patch16_224',
    vit_b='deit_base_patch16_224', swin_t='swin_tiny_patch4_window7_224', swin_s='swin_small_patch4_window7_224',
    swin_b='swin_base_patch4_window7_224', samvit_b='samvit_base_patch16',
    dinov2_s='vit_small_patch14_dinov2', swin_l='swin_large_patch4_window7_224', swinv2_t='swinv2_tiny_window8_256')

#: The classifier of mit-han-lab/efficientvit, in terms of timm's.
MIT = (
    (r'^stem\.in_conv\.', 'backbone.input_stem.op_list.0.'),
    (r'^stem\.res(\d)\.', lambda match: f'backbone.input_stem.op_list.{int(match[1]) + 1}.'),
    (r'^stages\.(\d)\.blocks\.', r'backbone.stages.\1.op_list.'),
    (r'^head\.in_conv\.', 'head.op_list.0.'),
    (r'^head\.classifier\.0\.', 'head.op_list.2.linear.'),
    (r'^head\.classifier\.1\.', 'head.op_list.2.norm.'),
    (r'^head\.classifier\.4\.', 'head.op_list.3.linear.'),
)

#: Names in its published B1, a layer of each kind and the last of each part.
MIT_B1 = (
    'backbone.input_stem.op_list.0.conv.weight',
    'backbone.input_stem.op_list.1.main.point_conv.norm.running_mean',
    'backbone.stages.0.op_list.1.main.depth_conv.norm.bias',
    'backbone.stages.2.op_list.0.main.inverted_conv.conv.bias',
    'backbone.stages.2.op_list.3.context_module.main.qkv.conv.weight',
    'backbone.stages.3.op_list.4.context_module.main.aggreg.0.0.weight',
    'backbone.stages.3.op_list.4.context_module.main.aggreg.0.1.weight',
    'backbone.stages.3.op_list.4.context_module.main.proj.norm.weight',
    'backbone.stages.3.op_list.4.local_module.main.point_conv.norm.weight',
    'head.op_list.0.norm.weight',
    'head.op_list.2.linear.weight',
    'head.op_list.2.norm.weight',
    'head.op_list.3.linear.bias',
)

@pytest.fixture
def reference(randomize):
    """A function that builds timm's model of a name, of few classes and with random values."""

    def reference(name):
        torch.manual_seed(0)
        return randomize(timm.create_model(TIMM[name], pretrained=False, num_classes=11)).eval()

    return reference


def on_meta(name):
    with torch.device('meta'):
        return timm.create_model(TIMM[name], pretrained=False, num_classes=1000).state_dict()


def renamed(state, rules):
    for pattern, replacement in rules:
        state = {re.sub(pattern, replacement, name): value for name, value in state.items()}
    return state


@torch.no_grad()
def assert_equal_logits(model, reference, size):
    """From the same image, loaded as BGR, each with its own preprocessing."""
    image = torch.randint(256, (2, 3, *size), dtype=torch.uint8)
    cfg = reference.default_cfg
    mean, std = (torch.tensor(cfg[key])[:, None, None] for key in ('mean', 'std'))
    expected = reference((image.flip(1) / 255 - mean) / std)
    assert expected.std() > 0.1
    logits = model(**model.data_preprocessor(dict(inputs=image)))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize('name, size', [
    ('mobilevit_xxs', (96, 128)), ('efficientvit_b0', (96, 64)), ('efficientvit_b2', (64, 64)),
    ('vit_t', (224, 224)), ('swin_t', (224, 224)), ('swinv2_t', (256, 256)), ('dinov2_s', (518, 518))])
def test_logits_equal_timms(name, size, reference):
    timms = reference(name)
    result = convert(timms.state_dict(), name)
    assert result.source == 'timm' and result.complete and not result.masks
    model = mmltm.get_model(name, num_classes=11)
    difference = compare(model, result.state)
    assert not (difference.missing or difference.unexpected or difference.mismatched)
    assert_equal_logits(model, timms, size)


@pytest.mark.parametrize('name', TIMM)
def test_names_and_shapes_of_timm(name):
    # Swin's constructor reads numbers out of a tensor.
    with torch.device('cpu' if name.startswith('swin') else 'meta'):
        result = convert(on_meta(name), f'ltm_{name}')
    assert result.source == 'timm' and result.complete
    assert result.masks and all('.mergers.' in key for key in result.masks)


def test_original_swin_and_older_timm(reference):
    """They downsample at the end of a stage, and their checkpoints hold constants."""
    new = reference('swin_t').state_dict()
    old = renamed(new, [
        (r'^layers\.(\d)\.downsample', lambda match: f'layers.{int(match[1]) - 1}.downsample'),
        (r'^head\.fc\.', 'head.')])
    old.update({'layers.0.blocks.1.attn_mask': torch.zeros(64, 49, 49),
                'layers.0.blocks.1.attn.relative_position_index': torch.zeros(49, 49, dtype=torch.long)})
    first, second = convert(new, 'swin_t'), convert(old, 'swin_t')
    assert second.source == 'timm' and second.complete
    torch.testing.assert_close(second.state, first.state, rtol=0, atol=0)


def test_mit_efficientvit(reference):
    """timm's weights under the authors' names, which were read off a published model's list of modules."""
    timms = reference('efficientvit_b1')
    state = renamed(timms.state_dict(), MIT)
    assert set(MIT_B1) <= state.keys()
    result = convert(state, 'efficientvit_b1')
    assert result.source == 'mit' and result.complete
    model = mmltm.get_model('efficientvit_b1', num_classes=11)
    model.load_state_dict(result.state)
    assert_equal_logits(model, timms, (64, 96))


@torch.no_grad()
def test_backbone_of_an_mmdet_detector(randomize):
    """All four maps of mmdet's Swin, whose detector has other parts."""
    torch.manual_seed(0)
    detector = BaseModule()
    detector.backbone = build(dict(type='mmdet.SwinTransformer', drop_path_rate=0.))
    detector.neck = torch.nn.Linear(2, 2)
    randomize(detector).eval()
    result = convert(detector.state_dict(), 'ltm_swin_t')
    assert result.source == 'mmdet' and result.complete and result.left_out == ['neck.weight', 'neck.bias']
    model = LTMSwin('tiny', out_indices=(0, 1, 2, 3), pad_small_map=True).eval()
    model.load_state_dict({name.removeprefix('backbone.'): value for name, value in result.state.items()})
    x = torch.randn(1, 3, 96, 128)
    for mine, theirs in zip(model(x), detector.backbone(x), strict=True):
        assert theirs.std() > 0.1
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('name', ['mobilevit_xxs', 'vit_t', 'swin_t'])
def test_mmpretrain_and_its_bare_backbones(name, randomize):
    state = randomize(mmltm.get_model(name, num_classes=3)).state_dict()
    if name == 'swin_t':  # as older checkpoints have it
        state['backbone.norm.weight'] = state.pop('backbone.norm3.weight')
    result = convert(state, f'ltm_{name}')
    assert result.source == 'mmpretrain' and result.complete and result.masks
    bare = {key.removeprefix('backbone.'): value for key, value in state.items() if key.startswith('backbone.')}
    again = convert(bare, f'ltm_{name}')
    assert again.complete and again.state.keys() == {key for key in result.state if key.startswith('backbone.')}
    torch.testing.assert_close(again.state, {key: result.state[key] for key in again.state}, rtol=0, atol=0)


def test_every_mismatch_is_reported():
    state = on_meta('vit_t')
    state['head_dist.weight'] = torch.empty(1000, 192, device='meta')
    state['pos_embed'] = torch.empty(1, 577, 192, device='meta')
    del state['norm.bias']
    with torch.device('meta'):
        result = convert(state, 'ltm_vit_t')
    assert not result.complete
    assert result.unused == ['head_dist.weight'] and result.missing == ['backbone.ln1.bias']
    assert result.mismatched == [
        'pos_embed (1, 577, 192), in the model backbone.pos_embed (1, 197, 192)']


@pytest.mark.parametrize('name, source, message', [
    ('vit_t', 'mit', "vit from 'mit', only from timm, mmpretrain, mmdet"), ('vit_x', 'timm', 'did you mean'),
    ('efficientvit_b0', 'x', "'x', only from timm, mit")])
def test_what_cannot_be_converted(name, source, message):
    with pytest.raises(UserError, match=message):
        convert({}, name, source)


def test_written_checkpoint_starts_a_training(tmp_path, reference):
    """As ``load_from`` and as ``init_cfg`` read it."""
    state = reference('mobilevit_xxs').state_dict()
    result = convert(state, 'mobilevit_xxs')
    path = str(tmp_path / 'new' / 'weights.pth')
    write_checkpoint(result.state, path, source=result.source)
    assert torch.load(path, weights_only=True)['meta']['source'] == 'timm'
    model = mmltm.get_model('ltm_mobilevit_xxs', num_classes=11)
    load_checkpoint(model, path)
    init_cfg = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    backbone = mmltm.get_model('ltm_mobilevit_xxs', backbone=dict(init_cfg=init_cfg)).backbone
    backbone.init_weights()
    for name, value in result.state.items():
        assert torch.equal(model.state_dict()[name], value)
        if name.startswith('backbone.'):
            assert torch.equal(backbone.state_dict()[name.removeprefix('backbone.')], value)
