"""tools/dataset_converters/check_coco.py: what it says, its status, and the copy that it repairs."""

import json
import runpy
import sys

import pytest

from tests.apis.test_faulty_inputs import coco


@pytest.fixture
def check(root, monkeypatch, tmp_path, capsys):
    """Runs the tool in a folder of its own; returns its status or error line, and what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['check_coco.py', *arguments])
        status = 0
        try:
            runpy.run_path(str(root / 'tools' / 'dataset_converters' / 'check_coco.py'), run_name='__main__')
        except SystemExit as stop:
            status = stop.code
        return status, ' '.join(capsys.readouterr().out.split())

    return run


def test_checks_repairs_and_sorts(check, tmp_path):
    content = coco()
    (tmp_path / 'train.json').write_text(json.dumps(content))
    content['categories'].reverse()
    content['images'].append(content['images'][0])
    del content['annotations'][0]['iscrowd']
    (tmp_path / 'val.json').write_text(json.dumps(content))
    assert check('train.json') == (0, 'train.json: nothing is wrong (4 images, 8 annotations, 2 categories)')
    status, text = check('val.json')
    assert status == 1 and 'fatal' in text and 'warning' in text and '1 of 5' in text
    status, text = check('val.json', '--like', 'train.json', '--fix', 'repaired.json')
    assert status == 0 and text.endswith(
        'image id occurs before: 1 images: keeps the first of an id iscrowd is missing: 1 annotations: writes 0 '
        'Categories: in another order than train.json Repaired copy: repaired.json')
    assert json.loads((tmp_path / 'repaired.json').read_text()) == coco()
    assert check('val.json', '--fix', 'repaired.json')[0].startswith('error: repaired.json exists')
    assert check('gone.json')[0] == 'error: gone.json does not exist'


def test_the_real_files_pass(check, shared):
    folder = shared / 'data' / 'coco'
    for split in ('train2017', 'val2017'):
        status, text = check(str(folder / f'annotations/instances_{split}.json'), '--images', str(folder / split))
        assert status == 0 and 'nothing is wrong' in text
