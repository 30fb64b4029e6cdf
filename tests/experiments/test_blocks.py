"""The block of a folder of cells: table, claims, links to pictures, origin."""

import pytest

from harness.report import block
from harness.result_file import save_result


@pytest.fixture
def results(tmp_path):
    setting = dict(hardware='a CPU', device='cpu', threads=1, dtype='float32', torch='2', date='2026-01-01T00:00:00',
                   revision='0123456789abc', dirty=False)
    folder = tmp_path / 'results'
    save_result(folder / 'tried/cells/one.json', dict(
        kind='cell', key='one', status='done', error=None, label='vanilla', config='net', merger=None, ratio=None,
        epochs=0, seed=0, overrides={}, hooks=[], checkpoint=None, digest=dict(test='t'), images=2, correct='10',
        metrics={'accuracy/top1': 50.}, gmacs=1., peak_memory=dict(bytes=1), ib=None, history=[], setting=setting))
    save_result(folder / 'tried/experiment.json', dict(
        metric=None, command='python run.py tried', claims=[dict(text='It works', ours=['one'], theirs=['two'])]))
    return folder


def test_pictures_are_linked_from_where_the_page_lies(results, tmp_path):
    page = results / 'README.md'
    text = block('tried', results, page)
    assert all(part in text for part in ('| vanilla |', '| It works |', 'python run.py tried')) and 'Beside' not in text
    (results / 'tried/comparison.png').touch()
    assert 'Beside it: [accuracy against cost](tried/comparison.png).' in block('tried', results, page)
    (results / 'tried/curves.png').touch()
    assert ('Beside it: [accuracy against cost](results/tried/comparison.png), '
            '[training loss](results/tried/curves.png).') in block('tried', results, tmp_path / 'README.md')
