"""tools/test.py, run as a user runs it, and what it says about input that it cannot use."""

import json
import runpy
import sys

import cv2
import pytest
import torch
from mmengine.runner import Runner

from mmltm.apis.config import load_config


@pytest.fixture(scope='module')
def checkpoint(tiny_config, tmp_path_factory):
    """The configured model, untrained."""
    folder = tmp_path_factory.mktemp('checkpoint')
    cfg = load_config(str(tiny_config), work_dir=str(folder))
    path = folder / 'model.pth'
    torch.save(dict(state_dict=Runner.from_cfg(cfg).model.state_dict()), path)
    return path


@pytest.fixture
def call(root, monkeypatch, tmp_path):
    """Runs tools/test.py in this process; returns its error line."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['test.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(root / 'tools' / 'test.py'), run_name='__main__')
        assert '\n' not in stop.value.code
        return stop.value.code

    return run


@pytest.mark.parametrize('options', [(), ('--tta', 0.75, 1)], ids=['', 'tta'])
def test_saves_predictions_and_pictures(tiny_coco, tiny_config, checkpoint, run_tool, root, tmp_path, options):
    process = run_tool(
        sys.executable, root / 'tools' / 'test.py', tiny_config, checkpoint, '--data-root', tiny_coco,
        '--out', 'results/foo.json', '--show-dir', 'pictures', *options, cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    assert 'coco/bbox_mAP' in process.stdout and 'coco/segm_mAP' in process.stdout
    files = sorted(path.name for path in (tmp_path / 'results').iterdir())
    assert files == ['foo.bbox.json', 'foo.json', 'foo.segm.json']
    predictions = json.loads((tmp_path / 'results' / 'foo.json').read_text())
    assert [prediction['img_id'] for prediction in predictions] == [0, 1]
    instances = predictions[0]['pred_instances']
    assert len(instances['bboxes']) == len(instances['scores']) == len(instances['masks'])
    assert len(instances['bboxes'][0]) == 4 and instances['masks'][0]['size'] == [64, 64]
    for name in ('000.png', '001.png'):
        height, width = cv2.imread(str(tmp_path / 'pictures' / name)).shape[:2]
        assert width == 2 * height  # ground truth, and predictions beside it


def test_checkpoint_of_another_model(tiny_coco, tiny_config, checkpoint, call):
    line = call(tiny_config, checkpoint, '--data-root', tiny_coco, '--cfg-options',
                'model.backbone.base_channels=16', 'model.neck.in_channels=[16,32,64,128]')
    assert line.startswith(f'error: checkpoint {checkpoint} is of another model')
    assert 'backbone.conv1.weight (8, 3, 7, 7) against (16, 3, 7, 7)' in line


def test_checkpoint_missing(tiny_coco, tiny_config, call):
    line = call(tiny_config, 'nowhere.pth', '--data-root', tiny_coco)
    assert line == 'error: checkpoint nowhere.pth does not exist'


def test_corrupt_image_is_named(tiny_coco, tiny_config, checkpoint, call):
    image = tiny_coco / 'val2017' / '001.png'
    content = image.read_bytes()
    image.write_bytes(b'not an image')
    try:
        line = call(tiny_config, checkpoint, '--data-root', tiny_coco)
    finally:
        image.write_bytes(content)
    assert line.startswith(f'error: cannot decode image {image} (')


def test_out_must_be_json_or_a_pickle(tiny_config, checkpoint, call):
    assert call(tiny_config, checkpoint, '--out', 'foo.txt') == 'error: --out foo.txt must end in .json or .pkl'


def test_full_disk_leaves_earlier_results(tiny_coco, tiny_config, checkpoint, call, disk):
    folder, resize = disk
    assert resize(3 * 4096)
    (folder / 'foo.json').write_text('earlier')
    line = call(tiny_config, checkpoint, '--data-root', tiny_coco, '--out', folder / 'foo.json')
    assert line.startswith(f'error: cannot write {folder}/foo') and ': No space left on device; ' in line
    assert (folder / 'foo.json').read_text() == 'earlier'


def test_unwritable_out_is_refused_before_the_test(tiny_config, checkpoint, call, tmp_path):
    (tmp_path / 'file').touch()
    assert call(tiny_config, checkpoint, '--out', 'file/foo.json').startswith(
        'error: cannot write to the folder of --out, file: ')
    assert call(tiny_config, checkpoint, '--show-dir', 'file').startswith('error: cannot write to --show-dir /')
