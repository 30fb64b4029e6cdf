import pytest
import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm

from mmltm.models import EfficientViT, EfficientViTClsHead
from mmltm.models.backbones.efficientvit import MultiScaleLinearAttention
from mmltm.registry import MODELS


def test_b1_has_the_papers_size():
    model = torch.nn.ModuleList([EfficientViT('b1'), EfficientViTClsHead(1000, 256)])
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(9.1, abs=0.05)


def test_channels_and_order_of_outputs():
    outputs = EfficientViT('b1', out_indices=(0, 1, -1, 2, 3)).eval()(torch.randn(1, 3, 64, 64))
    assert [output.shape[1] for output in outputs] == [16, 32, 256, 64, 128]


def test_norm_eval():
    model = EfficientViT('b0', norm_eval=True).train()
    assert not any(m.training for m in model.modules() if isinstance(m, _BatchNorm))


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
