"""Verdicts on claims, against differences and errors computed by hand."""

import math

import pytest

from harness.claims import claims_table, judged
from harness.experiment import FILE
from harness.result_file import save_result

AP50 = 'coco/segm_mAP_50'


@pytest.fixture
def say(tmp_path):
    """Writes cells of two methods, a seed each, and a claim about them; returns what is said of it."""

    def say(ours, theirs, metric=None):
        sides = dict(ours=ours, theirs=theirs)
        keys = {side: [f'{side}{seed}' for seed in range(len(seeds))] for side, seeds in sides.items()}
        claim = dict(text='Ours is better', **keys)
        save_result(tmp_path / FILE, dict(metric=metric, claims=[claim]))
        for side, seeds in sides.items():
            for key, value in zip(keys[side], seeds):
                top1 = isinstance(value, str)
                save_result(tmp_path / 'cells' / f'{key}.json', dict(
                    key=key, status='failed' if value is None else 'done', correct=value if top1 else None,
                    metrics={'accuracy/top1': value.count('1')} if top1 else {'coco/bbox_mAP': 0.5, AP50: value}))
        row, = judged(tmp_path)
        return row, claims_table(tmp_path)

    return say


# Of 100 images: d_i is 1 for 10 (or 30) of them and 0 for the others; the variance is that of such numbers.
@pytest.mark.parametrize('ours, theirs, points, error, verdict', [
    ('1' * 60 + '0' * 40, '1' * 30 + '0' * 70, 30., 4.606, 'held'),
    ('1' * 30 + '0' * 70, '1' * 60 + '0' * 40, -30., 4.606, 'not held'),
    ('1' * 51 + '0' * 49, '1' * 50 + '0' * 50, 1., 1., 'undecided at this budget')])
def test_classifiers_image_by_image(say, ours, theirs, points, error, verdict):
    row, text = say([ours], [theirs])
    assert row['verdict'] == verdict and row['difference'] == pytest.approx(points)
    assert row['standard_error'] == pytest.approx(error, abs=1e-3)
    assert text.startswith('| claim | difference, points |')
    assert f'| {points:+.2f} ± {error:.2f} | {verdict} |' in text


@pytest.mark.parametrize('ours, theirs, difference, error, verdict', [
    ([0.5], [0.1], 0.4, None, 'undecided at this budget'),
    ([0.5, 0.5, 0.5], [0.1, 0.1], 0.4, None, 'undecided at this budget'),
    # Sample variances 1e-4 each.
    ([0.51, 0.5, 0.49], [0.41, 0.4, 0.39], 0.1, math.sqrt(2e-4 / 3), 'held'),
    ([0.41, 0.4, 0.39], [0.51, 0.5, 0.49], -0.1, math.sqrt(2e-4 / 3), 'not held'),
    ([0.41, 0.4, 0.39], [0.42, 0.41, 0.4], -0.01, math.sqrt(2e-4 / 3), 'undecided at this budget')])
def test_detectors_seed_by_seed(say, ours, theirs, difference, error, verdict):
    row, text = say(ours, theirs, AP50)
    assert row['verdict'] == verdict and row['difference'] == pytest.approx(difference)
    assert row['standard_error'] == (None if error is None else pytest.approx(error))
    assert text.startswith('| claim | difference, mask AP50 |')
    assert f"| {difference:+.3f}{'' if error is None else f' ± {error:.3f}'} | {verdict} |" in text
    assert 'with fewer than 3 of each method a claim stays undecided' in text


def test_without_a_result(say, tmp_path):
    row, text = say(['1' * 50], [None])
    assert (row['verdict'], row['difference']) == ('not measured', None) and '|  | not measured |' in text
    (tmp_path / FILE).unlink()
    assert claims_table(tmp_path) == '' and judged(tmp_path) == []


@pytest.mark.parametrize('times, points, verdict', [
    # Theirs at two ratios gets 70 and 50 right of 100, ours 60.
    (dict(ours=10., slow=10.1, fast=5.), -10., 'not held'), (dict(ours=10., slow=10.3, fast=5.), 10., 'held'),
    (dict(ours=10., slow=10.3, fast=11.), None, 'held: none of theirs is as fast'),
    (dict(ours=10., slow=9.), None, 'not measured')])
def test_equal_latency(tmp_path, times, points, verdict):
    for ratio, (key, right) in enumerate(dict(ours=60, slow=70, fast=50).items()):
        save_result(tmp_path / 'cells' / f'{key}.json', dict(
            key=key, status='done', correct='1' * right + '0' * (100 - right), metrics={'accuracy/top1': right},
            config='c', label='ours' if key == 'ours' else 'theirs', ratio=ratio, epochs=0, overrides={}, hooks=[],
            merger={}))
    models = [dict(cells=[key], timings=[dict(batch_size=1, median_ms=ms)]) for key, ms in times.items()]
    save_result(tmp_path / 'latency' / 'c.json', dict(models=models))
    claim = dict(text='Faster', latency=1, ours=['ours'], theirs=['slow', 'fast'])
    save_result(tmp_path / FILE, dict(metric=None, claims=[claim]))
    row, = judged(tmp_path)
    assert row['verdict'] == verdict and row['difference'] == (points and pytest.approx(points))
    assert f'| {verdict} |' in claims_table(tmp_path)


def layer_claim(folder, ours, theirs, same=False):
    """What is said of a claim about the IB loss of two methods, values by layer, or of one twice."""
    for key, losses in dict(ours=ours, theirs=theirs).items():
        layers = None if losses is None else {f'layers.{i}.merger': dict(ib_loss=loss, ib_bound=0.)
                                              for i, loss in enumerate(losses)}
        save_result(folder / 'cells' / f'{key}.json', dict(
            key=key, status='done', correct='1', metrics={'accuracy/top1': 100.}, merger=dict(type='ToMe'),
            ib=layers and dict(restored=layers)))
    claim = dict(text='Ours is above', quantity='ib_loss', ours=['ours'], theirs=['ours' if same else 'theirs'])
    save_result(folder / FILE, dict(metric=None, claims=[claim]))
    row, = judged(folder)
    return row['difference'], row['verdict'], claims_table(folder)


@pytest.mark.parametrize('ours, theirs, difference, verdict', [
    ([0.5, 0.4], [0.2, 0.1, 9.0], 0.3, 'held'), ([0.2, 0.1], [0.5, 0.4], -0.3, 'not held'),
    ([0.5, 0.1], [0.3, 0.2], 0.05, 'undecided at this budget')])
def test_layer_by_layer(tmp_path, ours, theirs, difference, verdict):
    found, said, text = layer_claim(tmp_path, ours, theirs)
    assert found == pytest.approx(difference) and said == verdict
    assert f'| {difference:+.4f} nats | {verdict} |' in text and 'decided where all of them agree' in text
    assert text.startswith('| claim | difference, points |')


@pytest.mark.parametrize('losses, difference, verdict', [
    ([0.5, 0.4, 0.1], 0.2, 'held'), ([0.1, 0.4, 0.5], -0.2, 'not held'),
    ([0.1, 0.5, 0.4], -0.15, 'undecided at this budget')])
def test_falling_with_depth(tmp_path, losses, difference, verdict):
    found, said, _ = layer_claim(tmp_path, losses, [0.], same=True)
    assert found == pytest.approx(difference) and said == verdict


def test_without_a_bottleneck(tmp_path):
    assert layer_claim(tmp_path, [0.5], None)[:2] == (None, 'not measured')
