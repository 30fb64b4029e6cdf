"""Models by name, and token merging for models in memory."""

import copy
import dataclasses
import logging
import re
import subprocess
import sys

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

import mmltm
from mmltm.apis.profiling import count_macs
from mmltm.errors import UserError
from mmltm.models import LTMMobileViT, LTMSwin, LTMVisionTransformer
from mmltm.models.builder import build_model as build
from mmltm.models.families import FAMILIES, Architecture, register_family
from mmltm.models.zoo import model_config

SMALLEST = ('mobilevit_xxs', 'efficientvit_b0', 'vit_t', 'swin_t')


@pytest.fixture
def logged(caplog):
    """The log of mmengine, which does not pass it on to Python's root logger."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield caplog
    logger.removeHandler(caplog.handler)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def test_importing_mmltm_imports_nothing_else(root):
    code = 'import mmltm, sys; assert not {"torch", "mmcv", "mmpretrain", "mmdet"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], cwd=root, check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mmltm.nothing


def test_names():
    names = mmltm.list_models()
    assert len(names) == 48 and names == sorted(names)
    assert mmltm.list_models('ltm_vit') == ['ltm_vit_b', 'ltm_vit_s', 'ltm_vit_t']
    assert mmltm.list_models('*swin_b') == ['ltm_swin_b', 'swin_b'] and not mmltm.list_models('resnet')


@pytest.mark.parametrize('name', [
    name for name in mmltm.list_models() if not re.match(r'ltm_|(swin|samvit).*_[lh]$', name)])
def test_twins_differ_by_masks_only(name):
    with torch.device('cpu' if 'swin' in name else 'meta'):
        vanilla, merging = (build(model_config(prefix + name, num_classes=7)) for prefix in ('', 'ltm_'))
    theirs, ours = ({key: value.shape for key, value in model.state_dict().items()} for model in (vanilla, merging))
    masks = ours.keys() - theirs.keys()
    assert masks and all('.mergers.' in key for key in masks)
    assert theirs == {key: shape for key, shape in ours.items() if key not in masks}


@torch.no_grad()
@pytest.mark.parametrize('name', SMALLEST)
def test_logits(name):
    for model in (mmltm.get_model(name, num_classes=7), mmltm.get_model(f'ltm_{name}', ratio=0.5, num_classes=7)):
        assert not model.training and model(torch.randn(2, 3, 224, 224)).shape == (2, 7)


@torch.no_grad()
@pytest.mark.parametrize('name, limit', [('swin_t', 0.012), ('vit_s', 0.002), ('mobilevit_s', 0.004),
                                         ('efficientvit_b1', 0.0085)])
def test_share_of_the_step_in_the_cost(name, limit):
    """By image, with 1000 classes, at ratio 0.7; half of Swin's is the projection of all its tokens to 16 channels."""
    macs, x = [], torch.empty(1, 3, 224, 224, device='meta')
    for classes in (None, 1000):
        model = mmltm.get_model(f'ltm_{name}', merger=dict(num_classes=classes)).backbone.to('meta')
        macs.append(count_macs(model, lambda model=model: model(x))[''])
    assert limit / 2 < macs[1] / macs[0] - 1 <= limit


def test_form_and_preprocessor():
    model = mmltm.get_model('ltm_mobilevit_xxs')
    assert model.backbone.layers[2][1].restore == 'stage'
    flowing = mmltm.get_model('ltm_mobilevit_xxs', backbone=dict(restore='none'))
    assert flowing.backbone.layers[2][1].restore == 'none'
    preprocessor = model.data_preprocessor
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert preprocessor(dict(inputs=image))['inputs'].flatten().tolist() == pytest.approx([0, 0.2, 1])
    swapped = mmltm.get_model('vit_t', data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3)).data_preprocessor
    assert swapped(dict(inputs=image))['inputs'].flatten().tolist() == pytest.approx([1, -0.6, -1])


def test_arguments_reach_the_backbone():
    model = mmltm.get_model('ltm_vit_t', backbone=dict(img_size=64, merger=dict(window=4, ratio=[0.5] * 12)))
    assert model.backbone.pos_embed.shape[1] == 17 and model.backbone.mergers[0].source == (4, 4)
    assert mmltm.get_model('ltm_efficientvit_b0', ratio=1.0).state_dict().keys() == mmltm.get_model(
        'efficientvit_b0').state_dict().keys()


@pytest.mark.parametrize('merger, kind', [
    ('ToMe', 'ToMe'), (dict(type='ToMe', ratio=0.7), 'ToMe'), (dict(type='ToMe', r=2), 'ToMe'),
    ('SoftMerging', 'SoftMerging'), (dict(window=14), 'LTM')])
def test_any_merger(merger, kind):
    assert type(mmltm.get_model('ltm_vit_t', merger=merger).backbone.mergers[0]).__name__ == kind


def test_ratios_that_agree_and_mergers_that_cannot_be():
    mmltm.get_model('ltm_vit_t', ratio=0.5, merger=dict(type='ToMe', ratio=0.5))
    for name, ratio, message in (('ltm_vit_t', 0.6, 'give one of them'), ('vit_t', None, 'merges no tokens')):
        with pytest.raises(UserError, match=message):
            mmltm.get_model(name, ratio=ratio, merger=dict(type='ToMe', ratio=0.5))


def test_a_family_is_one_entry():
    toy = dataclasses.replace(FAMILIES['vit'], name='toy', architectures=dict(
        toy_vit=Architecture('deit-tiny', dict(in_channels=192))))
    register_family(toy)
    try:
        assert {'toy_vit', 'ltm_toy_vit'} <= {*mmltm.list_models()}
        assert type(mmltm.get_model('ltm_toy_vit', num_classes=2).backbone) is LTMVisionTransformer
        with pytest.raises(UserError, match="'toy' already"):
            register_family(toy)
    finally:
        del FAMILIES['toy']


def test_no_detector_is_needed(root):
    """Models are listed and built where mmdet is not installed."""
    code = ('import sys; sys.modules["mmdet"] = None; import mmltm; mmltm.list_models(); '
            'mmltm.get_model("ltm_efficientvit_b0", num_classes=2)')
    subprocess.run([sys.executable, '-c', code], cwd=root, check=True)


@pytest.mark.parametrize('name, message', [
    ('ltm_mobilvit_s', 'did you mean ltm_mobilevit_s'), ('resnet', 'known are dinov2_b')])
def test_unknown_names(name, message):
    with pytest.raises(UserError, match=message) as error:
        mmltm.get_model(name)
    assert '\n' not in str(error.value)


def test_checkpoints(tmp_path, logged, randomize):
    trained = randomize(mmltm.get_model('mobilevit_xxs', num_classes=3))
    path = str(tmp_path / 'x.pth')
    torch.save(dict(state_dict=trained.state_dict()), path)
    model = mmltm.get_model('ltm_mobilevit_xxs', num_classes=3, checkpoint=path)
    assert 'has no masks' in logged.text and 'unknown' not in logged.text
    assert same(trained.state_dict(), {key: model.state_dict()[key] for key in trained.state_dict()})
    # As a Runner does; a trained model's weights must not be drawn anew.
    model.init_weights()
    assert torch.equal(model.head.fc.weight, trained.head.fc.weight)

    other_head = mmltm.get_model('mobilevit_xxs', num_classes=4, checkpoint=path)
    assert 'head.fc.weight (3, 320) against (4, 320)' in logged.text
    assert same(trained.backbone.state_dict(), other_head.backbone.state_dict())

    with pytest.raises(UserError, match='does not fit the model.*convert_weights.py'):
        mmltm.get_model('mobilevit_xs', checkpoint=path)
    with pytest.raises(UserError, match='gone.pth does not exist'):
        mmltm.get_model('mobilevit_xs', checkpoint='gone.pth')


class Sub(nn.Module):
    """Anything with a backbone."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone(x)[-1].flatten(1)


def backbone(type_, **kwargs):
    model = build(dict(type=type_, **kwargs))
    model.train()
    return model


VIT = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
SAM = dict(VIT, global_attn_indexes=[2])
SWIN = dict(embed_dims=12, depths=[2, 1, 2], num_heads=[1, 2, 2])
MOBILEVIT = [['mobilenetv2', 8, 2, 1, 2], ['mobilevit', 16, 2, 12, 24, 2, 2], ['mobilevit', 16, 2, 12, 24, 1, 2]]
#: Backbones with arguments that are not the defaults, each of which the copy must have as well.
CUSTOM = dict(
    mobilevit=dict(
        type_='MobileViT', arch=MOBILEVIT, in_channels=4, stem_channels=8, last_exp_factor=2, out_indices=[0, 2],
        frozen_stages=1, norm_cfg=dict(type='GN', num_groups=2), act_cfg=dict(type='ReLU')),
    efficientvit=dict(
        type_='mmltm.EfficientViT', arch='b0', in_channels=4, out_indices=(1, -1), frozen_stages=1, norm_eval=True,
        with_cp=True, norm_cfg=dict(type='GN', num_groups=2), act_cfg=dict(type='ReLU')),
    vit=dict(
        type_='VisionTransformer', arch=VIT, in_channels=4, img_size=(64, 96), patch_size=8, out_indices=[1, -1],
        out_type='avg_featmap', with_cls_token=False, pre_norm=True, final_norm=False, qkv_bias=False,
        interpolate_mode='bilinear', layer_scale_init_value=0.1, norm_cfg=dict(type='LN', eps=1e-3),
        layer_cfgs=dict(act_cfg=dict(type='ReLU')), drop_rate=0.1, drop_path_rate=0.2, frozen_stages=1),
    vit_sam=dict(
        type_='ViTSAM', arch=SAM, in_channels=4, img_size=(64, 96), patch_size=8, out_indices=[1, -1], out_channels=8,
        use_rel_pos=False, window_size=3, interpolate_mode='bilinear', norm_cfg=dict(type='LN', eps=1e-3),
        layer_cfgs=dict(act_cfg=dict(type='ReLU')), drop_rate=0.1, drop_path_rate=0.2, frozen_stages=1),
    swin_v2=dict(
        type_='SwinTransformerV2', arch=dict(SWIN, extra_norm_every_n_blocks=2), in_channels=4, img_size=64,
        window_size=[4, 8, 4], use_abs_pos_embed=True, out_indices=(0, 2), interpolate_mode='bilinear',
        pad_small_map=True, drop_rate=0.1, norm_cfg=dict(type='LN', eps=1e-3), frozen_stages=0,
        stage_cfgs=dict(block_cfgs=dict(ffn_cfgs=dict(act_cfg=dict(type='ReLU'))))),
    swin=dict(
        type_='SwinTransformer', arch=SWIN, in_channels=4, img_size=64, window_size=4, use_abs_pos_embed=True,
        out_indices=(0, 2), out_after_downsample=True, interpolate_mode='bilinear', pad_small_map=True, drop_rate=0.1,
        norm_cfg=dict(type='LN', eps=1e-3), frozen_stages=0,
        stage_cfgs=dict(block_cfgs=dict(ffn_cfgs=dict(act_cfg=dict(type='ReLU'))))),
)


@torch.no_grad()
@pytest.mark.parametrize('name', SMALLEST)
def test_apply_to_classifiers(name, randomize):
    torch.manual_seed(0)
    model = randomize(mmltm.get_model(name, num_classes=5))
    x = torch.randn(1, 3, 224, 224)
    before, logits = copy.deepcopy(model.state_dict()), model(x)
    assert torch.equal(mmltm.apply_ltm(model, ratio=1.0)(x), logits)
    merging = mmltm.apply_ltm(model, ratio=0.6, window=14 if name == 'vit_t' else 7)
    assert type(merging) is type(model) and not merging.training and merging.is_init
    twin = mmltm.get_model(f'ltm_{name}', num_classes=5, backbone=dict(
        merger=dict(ratio=0.6, window=14 if name == 'vit_t' else 7)))
    twin.load_state_dict(merging.state_dict())
    assert torch.equal(twin(x), merging(x)) and not torch.equal(merging(x), logits)
    # The original is untouched and shares no memory with the copy.
    for value in merging.state_dict().values():
        value.zero_()
    assert same(model.state_dict(), before) and torch.equal(model(x), logits)


@pytest.mark.parametrize('family', CUSTOM)
def test_apply_to_custom_backbones(family, randomize):
    """In training, with dropout, and in evaluation; on maps of the nominal size."""
    torch.manual_seed(0)
    model = randomize(backbone(**CUSTOM[family]))
    x = torch.randn(2, 4, 70, 97)
    for mode in (True, False):
        model.train(mode)
        one, merging = mmltm.apply_ltm(model, 1.0), mmltm.apply_ltm(model, 0.5)
        outputs = []
        for candidate in (model, one, merging):
            torch.manual_seed(1)
            outputs.append(candidate(x))
        for theirs, ours, merged in zip(*outputs, strict=True):
            assert torch.equal(theirs, ours) and merged.shape == theirs.shape
        flags = {name: module.training for name, module in model.named_modules()}
        grads = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        for name, module in merging.named_modules():
            assert module.training == flags.get(name, module.training)
        for name, parameter in merging.named_parameters():
            assert 'mergers.' in name or parameter.requires_grad == grads[name]
        assert any(not flag for flag in grads.values())


def test_masks_take_the_models_mode_and_device():
    model = backbone('SwinTransformer', arch=SWIN, out_indices=(2, ))
    assert all(module.training for module in mmltm.apply_ltm(model).modules())
    model.eval()
    assert not any(module.training for module in mmltm.apply_ltm(model).modules())
    assert {parameter.device.type for parameter in mmltm.apply_ltm(model.to('meta')).parameters()} == {'meta'}


def test_apply_to_anything_with_a_backbone():
    """Other than in a classifier, maps keep their size."""
    model = Sub(backbone('MobileViT', arch='xx_small')).eval()
    merging = mmltm.apply_ltm(model, ratio=0.5)
    x = torch.randn(1, 3, 64, 64)
    assert isinstance(merging.backbone, LTMMobileViT) and merging(x).shape == model(x).shape
    assert isinstance(mmltm.apply_ltm(backbone('VisionTransformer', arch=VIT)), LTMVisionTransformer)


@pytest.mark.parametrize('model, message', [
    (lambda: backbone('mmdet.SwinTransformer'), 'knows the backbones .*mmpretrain.Mobile.*got mmdet.SwinTransformer'),
    (lambda: backbone('DistilledVisionTransformer', arch=VIT), 'got mmpretrain.DistilledVisionTransformer'),
    (lambda: LTMSwin('tiny', ratio=0.7), 'got mmltm.LTMSwin'),
    (lambda: Sub(nn.Linear(2, 2)), 'got torch.Linear'),
    (lambda: backbone(
        'SwinTransformer', arch=SWIN, out_indices=(2, ), stage_cfgs=dict(block_cfgs=dict(ffn_ratio=2))),
     'cannot tell how this SwinTransformer was made: stages.0.blocks.0.ffn'),
])
def test_models_that_cannot_be_turned(model, message):
    with pytest.raises(UserError, match=message):
        mmltm.apply_ltm(model())
