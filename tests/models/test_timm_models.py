"""Token merging for timm's plain ViTs keeps timm's interface, weights and, at ratio 1.0, bits."""

import copy
import pickle

import pytest
import timm
import torch
from timm.models import Eva, VisionTransformer
from timm.models.deit import VisionTransformerDistilled

import mmltm
from mmltm.errors import UserError
from mmltm.merging import LTM, class_targets, finish_epoch

SMALL = dict(img_size=(64, 80), patch_size=8, embed_dim=24, depth=4, num_heads=2, num_classes=5)
ROTATED = dict(use_rot_pos_emb=True, swiglu_mlp=True, init_values=0.1)
MODELS = dict(
    vit=lambda **kwargs: VisionTransformer(**SMALL, **kwargs),
    deit=lambda **kwargs: VisionTransformerDistilled(**SMALL, **kwargs),
    dinov2=lambda **kwargs: VisionTransformer(
        **SMALL, init_values=0.1, reg_tokens=2, no_embed_class=True, dynamic_img_size=True, qk_norm=True, **kwargs),
    siglip=lambda **kwargs: VisionTransformer(**SMALL, class_token=False, global_pool='map', **kwargs),
    eva02=lambda **kwargs: Eva(**SMALL, **ROTATED, dynamic_img_size=True, **kwargs),
    dinov3=lambda **kwargs: Eva(
        **SMALL, **ROTATED, use_abs_pos_emb=False, num_reg_tokens=2, attn_type='rope', rope_type='dinov3', **kwargs),
)


@pytest.fixture(params=MODELS)
def model(request, randomize):
    torch.manual_seed(0)
    return randomize(MODELS[request.param]()).eval()


def images(model, batch=2):
    return torch.randn(batch, 3, *((72, 56) if model.dynamic_img_size else (64, 80)))


@torch.no_grad()
def test_interface_and_bits(model):
    x, before = images(model), copy.deepcopy(model.state_dict())
    one, merging = mmltm.apply_ltm(model, ratio=1.0), mmltm.apply_ltm(model, ratio=0.6)
    assert one(x).equal(model(x)) and one.forward_features(x).equal(model.forward_features(x))
    arguments = dict(indices=[0, 2], return_prefix_tokens=True, norm=True)
    for ours, theirs in zip(*(candidate.forward_intermediates(x, **arguments) for candidate in (one, model))):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)

    assert isinstance(merging, type(model)) and merging.get_classifier() is not model.get_classifier()
    masks = merging.state_dict().keys() - before.keys()
    assert masks and all(key.startswith('mergers.') for key in masks) and before.keys() < merging.state_dict().keys()
    assert model.no_weight_decay() < merging.no_weight_decay()
    features = merging.forward_features(x)
    assert features.shape == model.forward_features(x).shape and not merging(x).equal(model(x))
    final, maps = merging.forward_intermediates(x, indices=2, output_fmt='NLC')
    assert final.equal(features) and len(maps) == 2
    for twin in (copy.deepcopy(merging), pickle.loads(pickle.dumps(merging))):
        assert twin(x).equal(merging(x))
    merging.reset_classifier(3)
    assert merging(x).shape == (2, 3)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_masks_learn_and_keep_statistics_without_hooks(model):
    merging = mmltm.apply_ltm(model, ratio=0.6, num_classes=5).train()
    assert all(module.training for module in merging.modules())
    merging.set_grad_checkpointing(False)
    labels = torch.tensor([0, 3])
    for _ in range(3):
        merging.zero_grad()
        with class_targets(merging, labels):
            output = merging(images(model))
        sum((value * torch.randn_like(value)).sum() for value in (
            output if isinstance(output, tuple) else (output, ))).backward()
        finish_epoch(merging)
    masks = [module for module in merging.modules() if isinstance(module, LTM)]
    assert masks and all(mask.logits.grad.any() and mask.targets is None for mask in masks)
    assert all(mask.stats.ready and mask.step_gain.grad is not None for mask in masks[1:])


def test_recomputed_activations_change_no_gradient(model):
    grads = []
    merging, x = mmltm.apply_ltm(model, ratio=0.6).train(), images(model).requires_grad_()
    for enable in (False, True):
        merging.zero_grad()
        merging.set_grad_checkpointing(enable)
        torch.manual_seed(0)
        merging(x).square().sum().backward()
        grads.append([parameter.grad for parameter in merging.parameters()])
    torch.testing.assert_close(*grads)


@torch.no_grad()
@pytest.mark.parametrize('name, kind', [
    *(('vit', kind) for kind in ('ToMe', 'ToFu', 'EViT', 'LTMP', 'AvgPool')), ('siglip', 'ToMe'), ('dinov2', 'Random'),
    ('eva02', 'ToMe')])
def test_rivals(name, kind):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    merging, x = mmltm.apply_ltm(model, ratio=0.7, type=kind), images(model)
    assert merging(x).shape == (2, 5) and merging.forward_features(x).shape == model.forward_features(x).shape
    model_of_one = mmltm.apply_ltm(model, ratio=1.0, type=kind) if kind in ('ToMe', 'AvgPool') else model
    assert model_of_one(x).equal(model(x))


@pytest.mark.parametrize('make, merger, message', [
    (lambda: timm.create_model('resnet18'), {}, "knows VisionTransformer, .*of timm's models, got ResNet"),
    (lambda: MODELS['vit'](block_fn=timm.models.vision_transformer.ResPostBlock), {}, 'blocks of .*got ResPostBlock'),
    (lambda: MODELS['vit'](patch_drop_rate=0.5), {}, 'patch_drop_rate=0'),
    (lambda: MODELS['dinov2'](), dict(type='ToMe'), 'ToMe .*choose one of LTM'),
    (lambda: MODELS['vit'](qk_norm=True), dict(type='ToMe'), 'keeps the grid'),
])
def test_what_cannot_be_merged(make, merger, message):
    with pytest.raises(UserError, match=message):
        mmltm.apply_ltm(make(), **merger)


def test_attention_masks_are_refused():
    merging = mmltm.apply_ltm(MODELS['vit'](), ratio=0.6)
    with pytest.raises(UserError, match='attn_mask'):
        merging(torch.zeros(1, 3, 64, 80), attn_mask=torch.ones(81, 81))
