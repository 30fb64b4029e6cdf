"""The step of every window by itself, against the formulas written out in float64."""

import pytest
import torch

from mmltm.ib import BatchTargets
from mmltm.merging import LTM
from mmltm.merging.ltm import Carry
from mmltm.merging.step import WindowSteps, project_map
from tests.ib.reference import literal_direction

CLASSES = 3
SPACES = [dict(normalize=False, center=False, beta=0.7), dict(normalize=True, center=True, beta=4.0)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def merger(source=(4, 4), target=(3, 3), channels=5, spread=1.0, **kwargs):
    """With statistics, layer and gain of its own, in float64."""
    ltm = LTM(source, target, channels, **{'num_classes': CLASSES, 'stat_dim': None, **kwargs}).double()
    stats = ltm.stats
    stats.centroids.copy_(spread * torch.randn_like(stats.centroids))
    stats.counts.copy_(torch.tensor([3., 4., 5.]))
    stats.label_q.copy_(torch.rand(CLASSES, CLASSES).softmax(1))
    stats.assigned.fill_(4.)
    with torch.no_grad():
        ltm.step_gain.fill_(0.6)
        if ltm.step_weight is not None:
            ltm.step_weight.copy_(0.3 * torch.randn_like(ltm.step_weight))
    return ltm.eval()


def literal_mask(ltm, tokens, before=0.):
    """G of one window after its step, and the pre-softmax sum of the steps, (N, P), from its tokens (N, D)."""
    support, scores = ltm.support(ltm.source, ltm.target), ltm.scores(ltm.source, ltm.target).double()

    def softmax(steps):
        weights = support * (scores + steps).exp()
        return weights / weights.sum(0)

    direction = literal_direction((softmax(before).mT.detach() @ tokens)[None], ltm.stats)[0]
    step = 2 * ltm.stats.beta * (tokens + tokens @ ltm.step_weight) @ direction.mT
    if ltm.step_norm == 'rms':
        step = step - step.mean(0)
        step = step / step.square().mean().sqrt().detach().clamp(min=1e-6)  # below, it is rounding errors
    steps = before + ltm.step_gain * step
    return softmax(steps), steps


def windows_of(x, side=4):
    """Tokens of every window of a map, (B, T, N, C)."""
    rows, cols = x.shape[-2] // side, x.shape[-1] // side
    x = x.unflatten(-1, (cols, side)).unflatten(-3, (rows, side))
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


@pytest.mark.parametrize('space', SPACES)
@pytest.mark.parametrize('step_norm', ['none', 'rms'])
@pytest.mark.parametrize('carried', [False, True])
def test_masks_are_those_of_the_formulas(space, step_norm, carried):
    ltm = merger(step_norm=step_norm, **space)
    x = torch.randn(2, 5, 8, 12, dtype=torch.float64)
    carry, before = None, torch.zeros(2, 6, 16, 9, dtype=torch.float64)
    if carried:
        before = torch.randn_like(before)
        carry = Carry((4, 4), (3, 3), WindowSteps((before.mT, ), (((4, 4), (3, 3), 6), )))
    with torch.no_grad():
        operator, after = ltm(x, carry)
    for image in range(2):
        for window, tokens in enumerate(windows_of(x)[image]):
            mask, steps = literal_mask(ltm, tokens, before[image, window])
            torch.testing.assert_close(operator.regions[0].merge[image, window], mask, atol=1e-9, rtol=1e-9)
            torch.testing.assert_close(after.steps.tiles[0][image, window].mT, steps, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize('step_norm', ['none', 'rms'])
def test_layer_and_gain_learn_by_autograd_of_the_literal_formula(step_norm):
    ltm = merger(step_norm=step_norm, **SPACES[0])
    x, wanted = torch.randn(2, 5, 8, 4, dtype=torch.float64), torch.randn(2, 2, 16, 9, dtype=torch.float64)
    loss = (ltm(x)[0].regions[0].merge * wanted).sum()
    found = torch.autograd.grad(loss, (ltm.step_weight, ltm.step_gain))
    literal = sum((literal_mask(ltm, tokens)[0] * target).sum()
                  for image, targets in zip(windows_of(x), wanted) for tokens, target in zip(image, targets))
    for mine, theirs in zip(found, torch.autograd.grad(literal, (ltm.step_weight, ltm.step_gain))):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)
        assert theirs.abs().max() > 1e-4


def test_a_gain_of_zero_takes_the_step_back_and_still_learns():
    ltm, x = merger(**SPACES[1]), torch.randn(2, 5, 8, 8, dtype=torch.float64)
    ltm.step_gain.data.zero_()
    still = LTM((4, 4), (3, 3), 5).double().eval()
    torch.testing.assert_close(ltm(x)[0].merge(x), still(x)[0].merge(x))
    ltm(x)[0].merge(x).square().sum().backward()
    assert ltm.step_gain.grad != 0


def test_a_layer_of_zeros_is_none():
    layer, plain = merger(**SPACES[1]), merger(layer=False, **SPACES[1])
    layer.step_weight.data.zero_()
    plain.stats.load_state_dict(layer.stats.state_dict())
    x = torch.randn(1, 5, 8, 8, dtype=torch.float64)
    assert plain.step_weight is None
    torch.testing.assert_close(layer(x)[0].merge(x), plain(x)[0].merge(x))


def test_a_planted_object_changes_the_masks_of_its_windows_alone():
    ltm = merger(**SPACES[1])
    x = torch.randn(1, 5, 12, 12, dtype=torch.float64)
    planted = x.clone()
    planted[..., 5:7, 2:6] += 4.  # in the first and second window of the second row
    with torch.no_grad():
        before, after = (ltm(maps)[0].regions[0].merge[0] for maps in (x, planted))
    changed = (before - after).abs().amax((1, 2)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [3, 4]


@pytest.mark.parametrize('size', [(3, 3), (9, 6), (5, 13), (8, 8)])
def test_edges_and_small_maps_take_a_step_of_their_own(size):
    ltm = merger(**SPACES[1])
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    with torch.no_grad():
        moved = ltm(x)[0]
        ltm.step_gain.zero_()
        still = ltm(x)[0]
    for region, other in zip(moved.regions, still.regions):
        torch.testing.assert_close(region.merge.sum(-2), torch.ones_like(region.merge.sum(-2)))
        assert region.merge.shape[-1] == region.merge.shape[-2] or not torch.allclose(region.merge, other.merge)
        torch.testing.assert_close(region.unmerge, other.unmerge)
    assert moved.merge(x).shape == still.merge(x).shape


def test_windows_go_on_from_their_own_steps_and_a_new_stage_from_their_mean():
    kinds = (((4, 4), (3, 3), 4), ((2, 4), (1, 3), 2))
    steps = WindowSteps(tuple(torch.randn(2, count, p[0] * p[1], n[0] * n[1]) for n, p, count in kinds), kinds)
    same = steps.resampled(kinds)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(same, steps.tiles))
    narrower = steps.resampled((((3, 3), (2, 2), 4), ((1, 3), (1, 2), 2)))
    assert [tuple(part.shape) for part in narrower] == [(2, 4, 4, 9), (2, 2, 2, 3)]
    mean, = steps.resampled((((4, 4), (3, 3), 1), ))
    torch.testing.assert_close(mean[:, 0], steps.tiles[0].mean(1))


@pytest.mark.parametrize('layout', ['channels first', 'channels last', 'groups'])
def test_projection_of_maps(layout):
    matrix, x = torch.randn(6, 2), torch.randn(3, 6, 4, 5)
    maps = dict(first=x, last=x.to(memory_format=torch.channels_last), groups=x.unflatten(1, (2, 3)))
    maps = maps[layout.split()[-1]]
    torch.testing.assert_close(project_map(maps, matrix), x.movedim(1, -1) @ matrix)


def test_training_gathers_by_window_and_samples():
    """A window's targets are its own; the image's where nothing says more."""
    ltm = LTM((4, 4), (3, 3), 5, num_classes=CLASSES).train()
    x = torch.randn(4, 5, 8, 8)
    ltm.targets = torch.arange(4) % CLASSES
    operator, _ = ltm(x)
    torch.testing.assert_close(ltm.stats.epoch_counts, 4 * torch.tensor([2., 1., 1.]))
    assert operator.regions[0].merge.shape == (4, 4, 16, 9)
    operator.merge(x).square().sum().backward()
    assert ltm.logits.grad.any() and ltm.step_gain.grad is not None and ltm.step_weight.grad is not None
    assert isinstance(BatchTargets.of(ltm.targets, CLASSES), BatchTargets)
