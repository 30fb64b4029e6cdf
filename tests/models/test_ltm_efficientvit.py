import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmltm.models import EfficientViT, EfficientViTClsHead, LTMEfficientViT

ARCHS = ('b0', 'b1', 'b2', 'b3')


def gmacs(*modules, size):
    """Multiply-accumulates of a chain of modules for one square image, in units of 1e9."""
    with torch.device('meta'), torch.no_grad():
        x = torch.empty(1, 3, size, size)
        with FlopCounterMode(display=False) as counter:
            for module in modules:
                x = module.to('meta').eval()(x)
    return counter.get_total_flops() / 2e9


@torch.no_grad()
@pytest.mark.parametrize('arch', ARCHS)
@pytest.mark.parametrize('kwargs', [dict(ratio=1.0), dict(), dict(merger=dict(type='LTM', ratio=1.0))])
def test_ratio_one_is_the_vanilla_backbone_to_the_bit(arch, kwargs):
    vanilla = EfficientViT(arch, out_indices=(1, 2, 3, 4))
    model = LTMEfficientViT(arch, out_indices=(1, 2, 3, 4), **kwargs)
    model.load_state_dict(vanilla.state_dict())
    x = torch.randn(2, 3, 70, 97)
    for mode in (True, False):
        for mine, theirs in zip(model.train(mode)(x), vanilla.train(mode)(x)):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize('arch', ARCHS)
def test_only_masks_are_missing_from_a_vanilla_checkpoint(arch):
    vanilla, model = EfficientViT(arch), LTMEfficientViT(arch, ratio=0.7)
    missing, unexpected = model.load_state_dict(vanilla.state_dict(), strict=False)
    assert not unexpected and missing and all('.mergers.' in name for name in missing)
    grown = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in vanilla.parameters())
    # Windows of 49, 35, 24, 16, 12, 8, 6, 4, 2 and 2 tokens: N x P logits where one shrinks.
    costs = [49 * 35, 35 * 24, 24 * 16, 16 * 12, 12 * 8, 8 * 6, 6 * 4, 4 * 2, 0]
    assert grown == sum(sum(costs[:depth]) for depth in EfficientViT.arch_settings[arch]['depths'][3:])


@pytest.mark.parametrize('size, vanilla, limit', [(224, 0.519, 0.446), (288, 0.856, 0.708)])
def test_b1_costs_no_more_than_the_papers(size, vanilla, limit):
    head = EfficientViTClsHead(1000, 256)
    assert gmacs(EfficientViT('b1'), head, size=size) == pytest.approx(vanilla, rel=0.01)
    assert gmacs(LTMEfficientViT('b1', ratio=0.7), head, size=size) <= limit


@pytest.mark.parametrize('size', [(32, 32), (33, 65), (224, 224), (130, 201)])
@pytest.mark.parametrize('restore', ['stage', 'none'])
def test_any_size_and_nominal_strides(size, restore):
    model = LTMEfficientViT('b0', ratio=0.7, restore=restore, out_indices=(1, 2, 3, 4)).eval()
    for batch in (1, 3):
        outputs = model(torch.randn(batch, 3, *size))
        for index, output in enumerate(outputs):
            stride = 2**(index + 2)
            nominal = (-(-size[0] // stride), -(-size[1] // stride))
            assert output.isfinite().all()
            if restore != 'none' or index < 2:
                assert output.shape[2:] == nominal
            elif min(nominal) >= 4:
                assert output.shape[2] < nominal[0] and output.shape[3] < nominal[1]


@pytest.mark.parametrize('indices', [(4, ), (1, 2, 3, 4), (3, )])
def test_masks_learn(indices):
    model = LTMEfficientViT('b0', ratio=0.5, out_indices=indices)
    sum(output.square().mean() for output in model(torch.randn(2, 3, 224, 224))).backward()
    masks = [parameter for name, parameter in model.named_parameters() if '.mergers.' in name]
    assert masks and all((mask.grad != 0).any() for mask in masks)


def test_ratios_by_block():
    model = LTMEfficientViT('b1', ratio=[1.0, 0.5, 1.0, 1.0, 1.0, 0.25, 1.0])
    merging = [[hasattr(merger, 'logits') for merger in stage.mergers] for stage in model.stages[2:]]
    assert merging == [[False, True, False], [False, False, True, False]]


def test_evaluation_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    model = LTMEfficientViT('b0', ratio=0.7).eval()
    x = torch.randn(4, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[0][1:2], model(x[1:2])[0], atol=1e-5, rtol=1e-4)
        assert torch.equal(model(x)[0], model(x)[0])


def test_a_pattern_comes_back_where_it_was():
    """A bright spot moves the response of each level at its own place, so anchors and RoIs stay true."""
    torch.manual_seed(0)
    model = LTMEfficientViT('b0', ratio=0.7, out_indices=(1, 2, 3, 4)).eval()
    base = torch.zeros(1, 3, 224, 224)
    for y, x in [(40, 168), (200, 24)]:
        spot = base.clone()
        spot[:, :, y - 4:y + 4, x - 4:x + 4] = 5
        with torch.no_grad():
            for index, (lit, dark) in enumerate(zip(model(spot), model(base))):
                response = (lit - dark).abs().sum(1)[0]
                peak = divmod(response.argmax().item(), response.shape[1])
                stride = 2**(index + 2)
                assert abs(peak[0] - y / stride) <= 1.5 and abs(peak[1] - x / stride) <= 1.5


@pytest.mark.parametrize('kwargs, message', [
    (dict(ratio=0), r'\(0, 1\]'), (dict(ratio=1.5), '1.5'), (dict(ratio=[0.7] * 3), '3 values for 7'),
    (dict(merger=dict(type='LTM')), 'ratio'), (dict(merger=dict(type='X', ratio=0.5)), "one of .*LTM.*'X'"),
    (dict(ratio=0.5, merger=dict(type='LTM', ratio=0.7)), 'one of them'),
    (dict(ratio=0.7, restore='x'), 'restore')])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        LTMEfficientViT('b1', **kwargs)
