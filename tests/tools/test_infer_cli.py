"""tools/infer.py, run as a user runs it, and what it says about input that it cannot use."""

import json
import runpy
import shutil
import sys

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_masks

from mmltm.apis.config import load_config
from mmltm.models.builder import build_model

CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', merger=dict(type='LTM', ratio=0.7, num_classes=3)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=128))
data_preprocessor = dict(num_classes=3, mean=[124., 116., 104.], std=[58., 57., 57.], to_rgb=True)
test_dataloader = dict(dataset=dict(
    type='CustomDataset', data_prefix='nowhere', metainfo=dict(classes=['cat', 'dog', 'owl']),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=64),
              dict(type='CenterCrop', crop_size=64), dict(type='PackInputs')]))
"""


def save_untrained(config, folder):
    cfg = load_config(str(config))
    torch.manual_seed(0)
    torch.save(dict(state_dict=build_model(cfg.model, cfg.default_scope).state_dict()), folder / 'model.pth')
    return folder / 'model.pth'


@pytest.fixture(scope='module')
def detector(tiny_config, tmp_path_factory):
    """Config and untrained checkpoint of a small Mask R-CNN."""
    return tiny_config, save_untrained(tiny_config, tmp_path_factory.mktemp('detector'))


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """Config and untrained checkpoint of a small classifier."""
    folder = tmp_path_factory.mktemp('classifier')
    (folder / 'classifier.py').write_text(CLASSIFIER)
    return folder / 'classifier.py', save_untrained(folder / 'classifier.py', folder)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three images of two sizes, one that is none, and a text."""
    folder = tmp_path_factory.mktemp('images')
    for name, size in (('a.png', (48, 80)), ('b.jpg', (64, 64)), ('c.PNG', (48, 80))):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        assert cv2.imwrite(str(folder / name), image)
    (folder / 'broken.jpg').write_bytes(b'no image')
    (folder / 'notes.txt').write_text('no image either')
    return folder


@pytest.fixture
def infer(root, monkeypatch, tmp_path):
    """Runs tools/infer.py in this process with results in ``out``; returns its error line, or None."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['infer.py', '--out-dir', 'out', '--device', 'cpu', *map(str, arguments)])
        try:
            runpy.run_path(str(root / 'tools' / 'infer.py'), run_name='__main__')
        except SystemExit as stop:
            assert '\n' not in stop.code
            return stop.code

    return run


def predictions(folder):
    return json.loads((folder / 'predictions.json').read_text())


def test_folder_of_a_detector(run_tool, root, detector, folder, tmp_path):
    process = run_tool(
        sys.executable, root / 'tools' / 'infer.py', folder, *detector, '--out-dir', 'results/pets', '--batch-size',
        2, '--score-thr', 0.1, cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    assert f'skipped {folder}/broken.jpg: ' in process.stderr
    assert '3 images done, 1 skipped' in process.stdout and '100%' in process.stdout
    result = predictions(tmp_path / 'results' / 'pets')
    assert result['classes'] == ['dark', 'light'] and result['skipped'] == ['broken.jpg']
    assert list(result['images']) == ['a.png', 'b.jpg', 'c.PNG']
    for name, predicted in result['images'].items():
        image = cv2.imread(str(folder / name))
        picture = cv2.imread(str(tmp_path / 'results' / 'pets' / 'pictures' / name))
        assert picture.shape == image.shape and (picture != image).any()
        count = len(predicted['scores'])
        assert count and {len(predicted[key]) for key in ('labels', 'bboxes', 'masks')} == {count}
        assert coco_masks.decode(predicted['masks'])[..., 0].shape == image.shape[:2]


def test_image_of_a_classifier(infer, classifier, folder, tmp_path):
    assert infer(folder / 'a.png', *classifier) is None
    result = predictions(tmp_path / 'out')
    predicted = result['images']['a.png']
    assert result['classes'] == ['cat', 'dog', 'owl'] and result['skipped'] == []
    assert sum(predicted['pred_scores']) == pytest.approx(1, abs=1e-4)
    assert predicted['pred_class'] == result['classes'][predicted['pred_label']]
    assert predicted['pred_score'] == pytest.approx(max(predicted['pred_scores']))
    assert (cv2.imread(str(tmp_path / 'out' / 'pictures' / 'a.png')) != cv2.imread(str(folder / 'a.png'))).any()


def test_batches_predict_what_single_images_do(infer, classifier, folder, tmp_path):
    scores = []
    for size in (1, 3):
        assert infer(folder, *classifier, '--batch-size', size, '--no-vis') is None
        scores.append([image['pred_scores'] for image in predictions(tmp_path / 'out')['images'].values()])
    np.testing.assert_allclose(*scores, atol=1e-5)
    assert not (tmp_path / 'out' / 'pictures').exists()


def test_pictures_alone(infer, detector, folder, tmp_path):
    assert infer(folder / 'b.jpg', *detector, '--no-pred') is None
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['pictures']


def test_classes_of_the_checkpoint_come_first(infer, classifier, folder, tmp_path):
    config, checkpoint = classifier
    content = torch.load(checkpoint)
    torch.save(dict(content, meta=dict(dataset_meta=dict(classes=('x', 'y', 'z')))), tmp_path / 'named.pth')
    assert infer(folder / 'a.png', config, 'named.pth', '--no-vis') is None
    assert predictions(tmp_path / 'out')['classes'] == ['x', 'y', 'z']


def test_one_line_on_what_is_wrong(infer, detector, classifier, folder, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'bad').mkdir()
    shutil.copy(folder / 'broken.jpg', tmp_path / 'bad')
    config, checkpoint = detector
    image = folder / 'a.png'
    for arguments, line in (
        (('nowhere.jpg', config, checkpoint), 'error: image or folder nowhere.jpg does not exist'),
        (('empty', config, checkpoint), 'error: folder empty holds no image (.jpg, .jpeg,'),
        (('bad', config, checkpoint), 'error: none of the 1 images in bad can be used; the first: cannot decode '),
        ((image, 'nowhere.py', checkpoint), 'error: config nowhere.py does not exist'),
        ((image, config, 'nowhere.pth'), 'error: checkpoint nowhere.pth does not exist'),
        ((image, config, image), f'error: cannot read checkpoint {image}: '),
        ((image, config, classifier[1]), f'error: checkpoint {classifier[1]} is of another model than '),
        ((image, config, checkpoint, '--cfg-options', 'model.type=Nothing'), 'error: cannot build the model from '),
        ((image, classifier[0], checkpoint, '--cfg-options', 'model.type=SimSiam', 'data_preprocessor=None'),
         f'error: config {classifier[0]} is of a SimSiam, but only '),
    ):
        assert infer(*arguments).startswith(line)
    assert not (tmp_path / 'out' / 'predictions.json').exists()


def test_names_the_keys_that_differ(infer, classifier, folder, tmp_path):
    config, checkpoint = classifier
    state = torch.load(checkpoint)['state_dict']
    state['head.fc.weights'] = state.pop('head.fc.weight')
    torch.save(state, tmp_path / 'renamed.pth')
    line = infer(folder / 'a.png', config, 'renamed.pth')
    assert '1 missing in the checkpoint (head.fc.weight), 1 unknown to the model (head.fc.weights)' in line


def test_device_that_is_not_there(infer, classifier, folder):
    assert infer(folder, *classifier, '--device', 'cuda:99').startswith('error: cannot use --device cuda:99: ')
