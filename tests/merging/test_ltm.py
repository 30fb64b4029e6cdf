import copy
import pickle

import pytest
import torch

from mmltm.merging import LTM
from mmltm.merging.grids import local_overlap
from mmltm.merging.masks import gumbel_sigmoid, keep_largest


def merger(**kwargs):
    torch.manual_seed(0)
    return LTM((7, 7), (6, 6), embed_dims=3, **kwargs)


def test_starts_at_local_averaging_at_every_size():
    ltm = merger().eval()
    for source, target in [((7, 7), (6, 6)), ((4, 4), (3, 3)), ((1, 7), (1, 6)), ((2, 3), (2, 3))]:
        overlap = local_overlap(source, target)
        mask, _ = ltm.matrices(source, target)
        torch.testing.assert_close(mask, (overlap / overlap.sum(0)).float())
    uniform, _ = merger(prior='uniform').eval().matrices((7, 7), (6, 6))
    support = (local_overlap((7, 7), (6, 6)) > 0).float()
    torch.testing.assert_close(uniform, support / support.sum(0))


def test_evaluation_is_constant_and_deterministic():
    ltm = merger().eval()
    (first, _), (second, _) = ltm(torch.randn(2, 3, 14, 14)), ltm(torch.randn(5, 3, 14, 14))
    assert torch.equal(first.regions[0].merge, second.regions[0].merge)


def test_training_samples_and_every_logit_learns():
    ltm = merger()
    masks = [ltm.matrices((7, 7), (6, 6))[0] for _ in range(2)]
    assert not torch.equal(*masks)
    for mask in masks:
        torch.testing.assert_close(mask.sum(0), torch.ones(36))
        assert (mask >= 0).all()
    x = torch.randn(2, 8, 14, 14)
    operator, _ = ltm(x)
    merged = operator.merge(x)
    operator.restore(x, merged, merged.tanh()).square().sum().backward()
    assert ltm.logits.grad.isfinite().all() and (ltm.logits.grad != 0).all()


def test_gumbel_sigmoid_samples_its_probability():
    torch.manual_seed(0)
    logits = torch.tensor([-2., 0., 1.]).repeat(20000, 1)
    for temperature in (0.5, 2.0):
        sample = gumbel_sigmoid(logits, temperature)
        assert set(sample.unique().tolist()) == {0., 1.}
        torch.testing.assert_close(sample.mean(0), logits[0].sigmoid(), atol=0.015, rtol=0)


def test_no_column_is_ever_empty():
    logits = torch.randn(9, 4)
    support = keep_largest(torch.zeros(9, 4), logits)
    assert torch.equal(support.argmax(0), logits.argmax(0)) and torch.equal(support.sum(0), torch.ones(4))
    ltm = merger().eval()
    with torch.no_grad():
        ltm.logits.fill_(-5)
        ltm.logits[3] = -4
    mask, _ = ltm.matrices((7, 7), (6, 6))
    torch.testing.assert_close(mask[3], torch.ones(36))


def test_what_was_learnt_reaches_other_sizes():
    ltm = merger().eval()
    before = ltm.matrices((4, 4), (3, 3))[0]
    with torch.no_grad():
        ltm.logits[:, 0] += 9
    after = ltm.matrices((4, 4), (3, 3))[0]
    # The first target cell now takes from everywhere, the last one as before.
    assert (after[:, 0] > 0).all() and torch.equal(after[:, -1], before[:, -1])


@pytest.mark.parametrize('change', ['step', 'load', 'double', 'copy'])
def test_no_stale_mask(change):
    ltm = merger().eval()
    x = torch.randn(1, 2, 7, 7)
    with torch.no_grad():
        before = ltm(x)[0].merge(x)
        other = merger()
        other.logits.fill_(1)
        if change == 'step':
            ltm.logits.fill_(1)
        elif change == 'load':
            ltm.load_state_dict(other.state_dict())
        elif change == 'double':
            ltm.double()
            ltm.logits.data.fill_(1)
        else:
            ltm = pickle.loads(pickle.dumps(copy.deepcopy(ltm)))
            assert not ltm._constants
            ltm.logits.fill_(1)
        after = ltm(x)[0].merge(x)
        expected = other.eval()(x)[0].merge(x)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, expected)


def test_mask_is_float32_under_autocast():
    ltm = merger().eval()
    x = torch.randn(1, 2, 7, 7, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        operator, _ = ltm(x)
    assert operator.regions[0].unmerge.dtype == torch.float32 and operator.merge(x).dtype == torch.bfloat16


@pytest.mark.parametrize('kwargs, message', [
    (dict(prior='x'), 'prior.*area'), (dict(mode='x'), 'mode.*static'), (dict(temperature=0), 'temperature')])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        merger(**kwargs)
