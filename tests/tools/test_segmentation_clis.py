"""tools/train.py, test.py and infer.py with a segmentor, run as a user runs them, and what stops them beforehand."""

import json
import pickle
import runpy
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_masks

from mmltm.apis.config import load_config
from mmltm.apis.dataset_checks import check_datasets
from mmltm.errors import UserError

pytest.importorskip('mmseg')

#: In the folder of the repository's own mini configs.
CONFIG = """
_base_ = {base!r}
model = dict(
    backbone=dict(merger=dict(num_classes=3)), data_preprocessor=dict(size=(64, 64)),
    decode_head=dict(num_classes=3))
train_cfg = dict(max_iters=2, val_interval=2)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
    metainfo=dict(classes=('none', 'dark', 'light'))))
val_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False, dataset=dict(
    metainfo=dict(classes=('none', 'dark', 'light'))))
test_dataloader = val_dataloader
param_scheduler = []
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""


@pytest.fixture
def data(tmp_path):
    """Four images for training and two for validation, with label maps, in the layout of the mini set."""
    rng = np.random.default_rng(0)
    for split, count in (('train2017', 4), ('val2017', 2)):
        images, maps = tmp_path / 'data' / split, tmp_path / 'data' / 'annotations' / split
        images.mkdir(parents=True), maps.mkdir(parents=True)
        for i in range(count):
            image, labels = rng.integers(100, 156, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
            for label, value in ((1, 0), (2, 255)):
                x, y = rng.integers(0, 28, 2)
                image[y:y + 20, x:x + 20], labels[y:y + 20, x:x + 20] = value, label
            labels[:2] = 255
            cv2.imwrite(str(images / f'{i}.jpg'), image), cv2.imwrite(str(maps / f'{i}.png'), labels)
    return tmp_path / 'data'


@pytest.fixture
def config(root, tmp_path):
    path = tmp_path / 'seg.py'
    path.write_text(CONFIG.format(base=str(root / 'configs' / 'mini' / 'effvit_seg_ltm_b0_mini.py')))
    return path


def test_train_test_infer(run_tool, root, config, data, tmp_path, monkeypatch):
    def tool(name, *arguments):
        process = run_tool(sys.executable, root / 'tools' / name, *arguments, cwd=tmp_path)
        assert process.returncode == 0, process.stderr[-3000:]
        return process.stdout

    log = tool('train.py', config, '--data-root', data)
    assert 'mIoU:' in log and 'IB statistics of epoch 1' in log
    checkpoint = tmp_path / 'work_dirs' / 'seg' / 'iter_2.pth'
    saving = '--out', 'maps.pkl', '--show-dir', 'show'
    assert 'mIoU:' in tool('test.py', config, checkpoint, '--data-root', data, *saving)
    dumped = pickle.loads((tmp_path / 'maps.pkl').read_bytes())
    assert [name.rpartition('/')[2] for name in (entry['img_path'] for entry in dumped)] == ['0.jpg', '1.jpg']
    # Ground truth and prediction side by side.
    assert cv2.imread(str(tmp_path / 'show' / '0.jpg')).shape == (48, 128, 3)
    monkeypatch.setattr(sys, 'argv', ['', str(data / 'val2017'), str(config), str(checkpoint), '--out-dir', 'out',
                                      '--draw'])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(root / 'tools' / 'infer.py'), run_name='__main__')
    result = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert result['classes'] == ['none', 'dark', 'light']
    for entry, (name, predicted) in zip(dumped, result['images'].items()):
        assert {'labels': entry['labels'], 'masks': entry['masks']} == predicted
        masks = coco_masks.decode(predicted['masks'])
        assert masks.shape == (48, 64, len(predicted['labels'])) and (masks.sum(-1) == 1).all()
        picture = cv2.imread(str(tmp_path / 'out' / 'pictures' / name))
        assert picture.shape == (48, 64, 3)


def write(data, labels, name='train2017/2.png'):
    cv2.imwrite(str(data / 'annotations' / name), labels.astype(np.uint8))


@pytest.mark.parametrize('break_it, line', [
    (lambda data: (data / 'annotations/val2017/1.png').unlink(), '1 of 2 label maps do not exist, first .*val2017/1.p'),
    (lambda data: write(data, np.full((48, 64), 3)), 'train2017/2.png holds 3, but the 3 classes are 0 to 2'),
    (lambda data: write(data, np.zeros((64, 48))), 'of 48 x 64 pixels, its image of 64 x 48'),
    (lambda data: write(data, np.zeros((48, 64, 3))), 'is a picture in colours'),
    (lambda data: (data / 'annotations/train2017/0.png').write_bytes(b'no'), 'cannot decode label map .*2017/0.png'),
    (lambda data: [path.unlink() for path in (data / 'val2017').iterdir()], 'no image .*val2017/.*jpg'),
    (lambda data: (data / 'val2017').rename(data / 'gone'), 'image folder .*val2017 does not exist'),
])
def test_faulty_label_maps_are_named(config, data, break_it, line):
    cfg = load_config(str(config), data_root=str(data))
    check_datasets(cfg, ('train', 'val'))
    break_it(data)
    with pytest.raises(UserError, match=line):
        check_datasets(cfg, ('train', 'val'))


def test_classes_of_the_head_are_compared(config, data):
    cfg = load_config(str(config), {'model.decode_head.num_classes': 5}, data_root=str(data))
    with pytest.raises(UserError, match=r'the model has model.decode_head.num_classes=5, but .* has 3 categories'):
        check_datasets(cfg, ('train', ))


def test_zero_may_stand_for_nothing(config, data):
    """As in ADE20K: classes count from 1 in the files."""
    cfg = load_config(str(config), data_root=str(data))
    write(data, np.full((48, 64), 3))
    cfg.train_dataloader.dataset.reduce_zero_label = True
    check_datasets(cfg, ('train', ))


def test_without_mmseg_the_line_says_how_to_install_it(config, monkeypatch):
    for place in ('mim.find_spec', 'apis.config.is_installed'):
        monkeypatch.setattr(f'mmltm.{place}', lambda name: None)
    with pytest.raises(UserError, match='mmseg is not installed: pip install onedl-mmsegmentation'):
        load_config(str(config))  # on configs of mmseg's
    config.write_text("default_scope = 'mmseg'")
    with pytest.raises(UserError, match='mmseg is not installed: pip install onedl-mmsegmentation'):
        load_config(str(config))
