"""Paired differences, the table and the plot, against numbers computed by hand."""

import csv
import math

import cv2
import pandas as pd
import pytest

from harness.metrics import paired_difference
from harness.report import write_report
from harness.result_file import save_result
from harness.table import make_rows
from mmltm.errors import UserError


def test_paired_difference_by_hand():
    # d = 0, 1, -1, 1, of mean 1/4, about which the squares are 1/16 + 9/16 + 25/16 + 9/16.
    points, error = paired_difference(['1101'], ['1010'])
    assert points == pytest.approx(25) and error == pytest.approx(100 * math.sqrt(44 / 16 / (4 * 3)))
    # Two seeds: shares 1/2 and 1, d = -1/2, 1.
    points, error = paired_difference(['11', '01'], ['10'])
    assert points == pytest.approx(25) and error == pytest.approx(100 * math.sqrt(2 * 9 / 16 / 2))
    assert paired_difference(['0110'], ['0110']) == (0, 0)
    assert math.isnan(paired_difference(['1'], ['0']).standard_error)
    for ours, theirs in ((['11'], ['1']), ([], ['1']), ([''], [''])):
        with pytest.raises(ValueError, match='same images'):
            paired_difference(ours, theirs)


def save_cell(folder, label, correct, ratio=None, epochs=0, seed=0, gmacs=2.0, **more):
    key = f'{label}-{ratio}-{epochs}-{seed}'
    accuracy = correct and 100 * correct.count('1') / len(correct)
    save_result(folder / 'cells' / f'{key}.json', {**dict(
        kind='cell', key=key, status='done', error=None, label=label, config='net', merger=None, ratio=ratio,
        epochs=epochs, seed=seed, overrides={}, hooks=[], checkpoint='abc', digest=dict(test='t'),
        metrics={'accuracy/top1': accuracy}, images=correct and len(correct), correct=correct, gmacs=gmacs, ib=None,
        history=[], peak_memory=dict(bytes=5_000_000)), **more})
    return key


@pytest.fixture
def results(tmp_path):
    layers = dict(one=dict(ib_loss=-0.1, ib_bound=1.0), two=dict(ib_loss=-0.3, ib_bound=3.0))
    keys = [
        save_cell(tmp_path, 'vanilla', '1010'),
        save_cell(tmp_path, 'LTM', '1101', 0.5, 5, gmacs=1.0, ib=dict(layers=layers)),
        save_cell(tmp_path, 'LTM', '1111', 0.5, 5, seed=1, gmacs=1.0),
        save_cell(tmp_path, 'LTM', '0000', 0.7, 5, gmacs=1.5)
    ]
    save_cell(tmp_path, 'ToMe', None, 0.3, status='impossible', error='takes away | at most half')
    timing = dict(quartiles_ms=[1, 2], ratio_quartiles=[1, 1])
    save_result(tmp_path / 'latency' / 'net.json', dict(kind='latency', models=[
        dict(cells=keys[:1], timings=[dict(batch_size=4, median_ms=10.0, ratio=1.0, **timing)]),
        dict(cells=keys[1:], timings=[dict(batch_size=4, median_ms=8.0, ratio=0.8, **timing)])]))
    return tmp_path


def records(folder, metric=None):
    """Rows of the table, without what does not apply."""
    return [{key: value for key, value in row.items() if isinstance(value, list | dict) or pd.notna(value)}
            for row in make_rows(folder, metric).to_dict('records')]


def test_rows(results):
    vanilla, coarse, fine, tome = records(results)
    assert [(row['label'], row.get('ratio'), row['epochs'], row['seeds']) for row in (vanilla, coarse, fine, tome)] == [
        ('vanilla', None, 0, 1), ('LTM', 0.7, 5, 1), ('LTM', 0.5, 5, 2), ('ToMe', 0.3, 0, 0)]
    assert vanilla['value'] == 50 and 'difference' not in vanilla and vanilla['macs_ratio'] == 1
    assert fine['value'] == 87.5 and fine['spread'] == pytest.approx(math.sqrt(2) * 12.5)
    assert fine['difference'] == 37.5 and fine['images'] == 4
    # Shares 1, 1, 1/2, 1 less 1, 0, 1, 0: 0, 1, -1/2, 1 about 3/8.
    squares = (9 + 25 + 49 + 25) / 64
    assert fine['standard_error'] == pytest.approx(100 * math.sqrt(squares / 12))
    assert fine['gmacs'] == 1 and fine['macs_ratio'] == 0.5 and fine['latency_ratio_batch_4'] == 0.8
    assert fine['ib_loss'] == pytest.approx(-0.2) and fine['ib_bound'] == 2 and 'ib_loss' not in coarse
    assert tome['error'] == 'impossible: takes away | at most half' and 'value' not in tome


def test_a_trained_vanilla_model_is_the_one_to_compare_with(results):
    save_cell(results, 'vanilla', '1111', epochs=5)
    save_cell(results, 'LTM', '1101', 0.5)
    save_cell(results, 'other images', '11', 0.5, digest=dict(test='u'))
    rows = {(row['label'], row.get('ratio'), row['epochs']): row for row in records(results)}
    assert rows['LTM', 0.5, 5]['difference'] == -12.5
    assert rows['LTM', 0.5, 0]['difference'] == 25
    assert 'difference' not in rows['other images', 0.5, 0]


def test_detectors_have_no_standard_error(tmp_path):
    for label, value in (('vanilla', 0.3), ('LTM', 0.25)):
        save_cell(tmp_path, label, None, metrics={'coco/bbox_mAP': value, 'coco/bbox_mAP_50': 0.9})
    vanilla, ltm = records(tmp_path)
    assert ltm['metric'] == 'coco/bbox_mAP' and ltm['difference'] == pytest.approx(-0.05)
    assert 'standard_error' not in ltm
    assert records(tmp_path, 'coco/bbox_mAP_50')[1]['value'] == 0.9
    save_result(tmp_path / 'experiment.json', dict(metric='coco/bbox_mAP_50'))
    row = records(tmp_path)[1]
    assert row['value'] == 0.9 and row['coco/bbox_mAP'] == 0.25
    write_report(tmp_path)
    text = (tmp_path / 'comparison.md').read_text()
    assert '| seeds | box AP50 | difference | box AP | GMACs |' in text
    assert '| 0.900 | +0.000 | 0.250 | 2.0000 |' in text and 'paired' not in text
    assert list(csv.DictReader((tmp_path / 'comparison.csv').open()))[1]['coco/bbox_mAP'] == '0.25'


def test_report(results):
    write_report(results)
    text = (results / 'comparison.md').read_text()
    assert ('| LTM | 0.50 | 5 | 2 | 87.50 ± 17.68 | +37.50 ± 37.50 | 1.0000 | 0.500 | 8.0 | 0.800 | 5.0 | -0.2000 | '
            '2.0000 |') in text
    assert '- ToMe 0.30, 0 epochs: impossible: takes away | at most half' in text
    rows = list(csv.DictReader((results / 'comparison.csv').open()))
    assert rows[2]['difference'] == '37.5' and rows[2]['median_ms_batch_4'] == '8.0' and rows[3]['value'] == ''
    assert cv2.imread(str(results / 'comparison.png')).shape[1] > 1000
    with pytest.raises(UserError, match='holds no results'):
        write_report(results / 'elsewhere')
    (results / 'cells' / 'broken.json').write_text('{')
    with pytest.raises(UserError, match='cannot read result'):
        write_report(results)


def test_plots_show_what_an_experiment_names(results, monkeypatch):
    drawn = []
    monkeypatch.setattr('harness.report.draw_pareto', lambda rows, path: drawn.append(rows))
    save_cell(results, 'AvgPool', '0110', 0.5)
    write_report(results)
    save_result(results / 'experiment.json', dict(kind='experiment', claims=[], metric=None, plot=['AvgPool']))
    rows = write_report(results)
    assert drawn[0].equals(rows) and list(drawn[1].label) == ['vanilla', 'AvgPool']
    assert set(rows.label) == {'vanilla', 'LTM', 'ToMe', 'AvgPool'}
