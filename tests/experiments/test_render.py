"""tools/experiments/render.py on the repository itself: nothing is stale, and the model index holds together."""

import runpy
import sys

import pytest
import yaml


@pytest.fixture
def check(root, monkeypatch):
    """Runs the tool in this process and lets it check."""

    def check():
        monkeypatch.setattr(sys, 'argv', ['render.py', '--check'])
        runpy.run_path(str(root / 'tools/experiments/render.py'), run_name='__main__')

    return check


def test_nothing_is_stale(check):
    check()


def test_stale_table_is_found(check, root, monkeypatch):
    monkeypatch.setattr('harness.report.block', lambda name, folder, page: 'another table')
    with pytest.raises(SystemExit, match='error: stale: results/README.md, docs/runtimes.md; run python'):
        check()


def test_model_index(root):
    names = []
    for metafile in yaml.safe_load((root / 'model-index.yml').read_text())['Import']:
        content = yaml.safe_load((root / metafile).read_text())
        collections = {collection['Name'] for collection in content['Collections']}
        for model in content['Models']:
            names.append(model['Name'])
            assert (root / model['Config']).stem == model['Name'] and (root / model['Config']).is_file()
            assert model['In Collection'] in collections and model['Results']
            assert model['Metadata'].get('FLOPs', 1) > 0
    assert sorted(names) == sorted(path.stem for path in (root / 'configs').rglob('*.py') if '_base_' not in path.parts)
