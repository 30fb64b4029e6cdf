import pytest
import timm
import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm

from mmltm.models import EfficientViT, EfficientViTClsHead
from mmltm.models.backbones.efficientvit import MultiScaleLinearAttention
from mmltm.models.convert import efficientvit_from_timm
from mmltm.registry import MODELS

ARCHS = ('b0', 'b1', 'b2', 'b3')
HIDDEN = dict(b0=(1024, 1280), b1=(1536, 1600), b2=(2304, 2560), b3=(2304, 2560))


def classifier(arch):
    channels = EfficientViT.arch_settings[arch]['channels'][-1]
    return torch.nn.ModuleDict(dict(
        backbone=EfficientViT(arch), head=EfficientViTClsHead(1000, channels, HIDDEN[arch]))).eval()


@torch.no_grad()
@pytest.mark.parametrize('arch', ARCHS)
def test_logits_equal_timms(arch):
    torch.manual_seed(0)
    reference = timm.create_model(f'efficientvit_{arch}', pretrained=False).eval()
    for module in reference.modules():
        # Fresh statistics and affine terms are the identity, which would hide a swapped layer.
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
    model = classifier(arch)
    model.load_state_dict(efficientvit_from_timm(reference.state_dict()))
    x = torch.randn(2, 3, 96, 64)
    logits = model.head(model.backbone(x))
    assert logits.std() > 0.1
    torch.testing.assert_close(logits, reference(x), atol=1e-4, rtol=0)


def test_b1_has_the_papers_size():
    assert sum(p.numel() for p in classifier('b1').parameters()) / 1e6 == pytest.approx(9.1, abs=0.05)


@pytest.mark.parametrize('size', [(32, 32), (33, 65), (100, 71)])
@pytest.mark.parametrize('batch', [1, 3])
def test_stages_at_any_size(size, batch):
    model = EfficientViT('b1', out_indices=(0, 1, 2, 3, 4)).eval()
    outputs = model(torch.randn(batch, 3, *size))
    for index, (output, channels) in enumerate(zip(outputs, (16, 32, 64, 128, 256))):
        stride = 2**(index + 1)
        assert output.shape == (batch, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert output.isfinite().all()


@pytest.mark.parametrize('indices, expected', [((4, ), (4, )), ((-1, ), (4, )), ((1, -2), (1, 3)), (2, (2, )),
                                               ((0, ), (0, ))])
def test_every_parameter_learns_at_any_out_indices(indices, expected):
    model = EfficientViT('b0', out_indices=indices)
    assert model.out_indices == expected
    outputs = model(torch.randn(2, 3, 64, 64))
    sum(output.square().mean() for output in outputs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize('frozen', [-1, 0, 2, 4])
def test_frozen_at_construction_and_after_train(frozen):
    model = EfficientViT('b0', frozen_stages=frozen)
    for _ in range(2):
        for index, module in enumerate([model.stem, *model.stages]):
            still = index <= frozen
            assert all(p.requires_grad != still for p in module.parameters())
            assert all(m.training != still for m in module.modules() if isinstance(m, _BatchNorm))
        assert model.train() is model
    assert model.eval() is model


def test_norm_eval_and_norm_cfg_reach_every_layer():
    model = EfficientViT('b0', norm_eval=True).train()
    assert not any(m.training for m in model.modules() if isinstance(m, _BatchNorm))
    model = EfficientViT('b0', norm_cfg=dict(type='GN', num_groups=1))
    assert not any(isinstance(m, _BatchNorm) for m in model.modules())


def test_checkpointing_gives_the_same_gradients():
    models = [EfficientViT('b0', with_cp=with_cp, norm_eval=True) for with_cp in (False, True)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(2, 3, 64, 64)
    for model in models:
        model.train()(x)[0].sum().backward()
    for first, second in zip(*(model.parameters() for model in models)):
        torch.testing.assert_close(first.grad, second.grad, atol=1e-5, rtol=1e-4)


def test_attention_stays_float32_under_amp():
    torch.manual_seed(0)
    attention = MultiScaleLinearAttention(32, 16, dict(type='BN')).eval()
    q, k, v = (torch.randn(1, 2, 16, 1024).abs() * 100 for _ in range(3))
    # What float16 would make of it: the sum over tokens exceeds 65504.
    assert not (v.half() @ k.half().mT).isfinite().all()
    with torch.autocast('cpu', dtype=torch.float16):
        out = attention.attend(q.half(), k.half(), v.half())
    assert out.dtype == torch.float32 and out.isfinite().all()
    torch.testing.assert_close(out, attention.attend(q.half().float(), k.half().float(), v.half().float()))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert EfficientViT('b0').eval()(torch.randn(1, 3, 64, 64) * 50)[0].isfinite().all()


@pytest.mark.parametrize('kwargs, message', [
    (dict(arch='b9'), "'b9'"), (dict(out_indices=(5, )), 'got 5'), (dict(out_indices=()), 'empty'),
    (dict(frozen_stages=5), 'got 5')])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EfficientViT(**kwargs)


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain', 'mmengine'])
def test_found_under_any_default_scope(scope):
    from mmengine.registry import MODELS as ROOT_MODELS
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(ROOT_MODELS.build(dict(type='mmltm.EfficientViT', arch='b0')), EfficientViT)
    assert MODELS.get('EfficientViT') is EfficientViT
