"""The table and the picture by layer, from made-up results."""

import cv2
import pytest

from harness.ib_layers import comparisons, draw_ib_layers, ib_layers_table
from harness.result_file import save_result

VANILLA = ('layers.2.1.global_rep.0.ffn', 'layers.2.1.global_rep.1.ffn', 'layers.10.1.global_rep.0.ffn')
MERGERS = ('layers.2.1.mergers.0', 'layers.2.1.mergers.1', 'layers.10.1.mergers.0')
COMMON = dict(kind='cell', error=None, config='net', overrides={}, hooks=[], checkpoint='abc', digest=dict(test='t'),
              metrics={'accuracy/top1': 50.0}, images=2, correct='10', gmacs=1.0, peak_memory=dict(bytes=1),
              history=[])


def layers(names, *losses):
    return {name: dict(ib_loss=loss, ib_bound=loss + 2, c0=-1.0) for name, loss in zip(names, losses)}


def save(folder, label, ib, ratio=None, epochs=0, seed=0, status='done'):
    key = f'{label}-{ratio}-{epochs}-{seed}'
    save_result(folder / 'cells' / f'{key}.json', dict(
        COMMON, key=key, label=label, ib=ib, merger=ratio and dict(type=label, ratio=ratio), ratio=ratio,
        epochs=epochs, seed=seed, status=status))


@pytest.fixture
def results(tmp_path):
    save(tmp_path, 'vanilla', dict(layers=layers(VANILLA, -0.1, -0.2, -0.4)))  # an older file
    save(tmp_path, 'ToMe', dict(restored=layers(MERGERS, -0.2, -0.3, -0.5)), 0.5)
    other_space = layers(MERGERS, 7, 7, 7)
    for seed, loss in enumerate((-0.5, -0.7)):
        restored = layers((MERGERS[0], MERGERS[2]), loss, -0.9)  # the second block of the stage merges nothing
        save(tmp_path, 'LTM', dict(layers=other_space, restored=restored), 0.5, 5, seed)
    save(tmp_path, 'LTM', dict(layers=other_space), 0.7)  # an older file
    save(tmp_path, 'EViT', None, 0.5, status='failed')
    save(tmp_path, 'Random', dict(error='no square grid'), 0.5)
    save(tmp_path, 'LTMP', dict(restored=layers(MERGERS, -0.3, -0.4, -0.6)), 0.3, 1)
    return tmp_path


def test_layers_are_matched_by_their_place(results):
    text = ib_layers_table(results)
    assert '**net, ratio 0.5: IB loss, nats, by layer**' in text and '**net, ratio 0.5: IB bound' in text
    tables = text.split('\n\n')
    assert tables[1].splitlines() == [
        '| method | epochs | seeds | 1 | 2 | 3 | mean |', '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
        '| vanilla | 0 | 1 | -0.1000 | -0.2000 | -0.4000 | -0.2500 |',
        '| LTM | 5 | 2 | -0.6000 |  | -0.9000 | -0.7500 |',
        '| ToMe | 0 | 1 | -0.2000 | -0.3000 | -0.5000 | -0.3500 |']
    assert '| LTM | 5 | 2 | 1.4000 |  | 1.1000 | 1.2500 |' in tables[3]
    assert tables[5].splitlines()[2:] == [
        '| vanilla | 0 | 1 | -0.1000 | -0.2000 | -0.4000 | -0.2333 |',
        '| LTMP | 1 | 1 | -0.3000 | -0.4000 | -0.6000 | -0.4333 |']
    assert 'ratio 0.7' not in text and '7.0000' not in text


def test_a_row_of_panels_for_every_ratio(results):
    path = draw_ib_layers(results)
    assert path == results / 'ib_layers.png'
    picture = cv2.imread(str(path))
    assert picture.shape[0] == pytest.approx(2 * 3.6 * 120, abs=1)
    assert draw_ib_layers(results, ['LTMP']) == path
    assert cv2.imread(str(path)).shape[0] == pytest.approx(3.6 * 120, abs=1)  # none of its methods is in the other row
    methods = [[method[:2] for method in values.index] for values in comparisons(results).values()]
    assert methods == [[('vanilla', 0), ('LTM', 5), ('ToMe', 0)], [('vanilla', 0), ('LTMP', 1)]]


def test_nothing_to_show(tmp_path):
    save(tmp_path, 'vanilla', dict(layers=layers(VANILLA, -0.1, -0.2, -0.4)))
    save(tmp_path, 'LTM', None, 0.7)
    assert ib_layers_table(tmp_path) == '' and draw_ib_layers(tmp_path) is None
    assert not (tmp_path / 'ib_layers.png').exists()
