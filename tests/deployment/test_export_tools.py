"""Whole models go through the tools: exported, compared with PyTorch, run without it, and scored."""

import json
import re
import runpy
import shutil
import sys

import cv2
import numpy as np
import pycocotools.mask
import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmltm.apis.config import load_config
from mmltm.apis.export_metadata import image_steps
from mmltm.errors import UserError
from mmltm.models.builder import build_from

CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmltm.LTMVisionTransformer', img_size=64, patch_size=8,
        arch=dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48),
        merger=dict(type='LTM', ratio=0.7, num_classes=3)),
    head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=24))
data_preprocessor = dict(num_classes=3, mean=[124., 116., 104.], std=[58., 57., 57.], to_rgb=True)
test_dataloader = dict(dataset=dict(
    type='CustomDataset', data_prefix='nowhere', metainfo=dict(classes=['cat', 'chien', 'œil']),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=64),
              dict(type='CenterCrop', crop_size=64), dict(type='PackInputs')]))
"""


@pytest.fixture
def call(root, monkeypatch, capsys):
    """A function that runs a tool within this process, which has imported OpenMMLab already: what it prints."""
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def call(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [str(tool), *map(str, arguments)])
        runpy.run_path(str(root / tool), run_name='__main__')
        return ''.join(capsys.readouterr())

    return call


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """Config and untrained checkpoint of a small classifier."""
    folder = tmp_path_factory.mktemp('classifier')
    (folder / 'classifier.py').write_text(CLASSIFIER)
    torch.manual_seed(0)
    torch.save(dict(state_dict=build_from(load_config(str(folder / 'classifier.py'))).state_dict()),
               folder / 'model.pth')
    return folder / 'classifier.py', folder / 'model.pth'


def agree(expected, found):
    """Predictions of tools/infer.py and tools/deployment/infer_onnx.py, file by file: pixels and scores within 1e-3."""
    assert {path.name for path in expected.glob('*.json')} == {path.name for path in found.glob('*.json')}
    expected, found = ({path.stem: json.loads(path.read_text()) for path in folder.glob('*.json')}
                       for folder in (expected, found))
    if 'predictions' in found:
        expected, found = expected['predictions'], found['predictions']
        assert {**expected, 'images': {}} == {**found, 'images': {}} and [*expected['images']] == [*found['images']]
        for wanted, own in zip(expected['images'].values(), found['images'].values()):
            assert own.keys() == wanted.keys() and own['pred_class'] == wanted['pred_class']
            np.testing.assert_allclose(own['pred_scores'], wanted['pred_scores'], atol=1e-5)
        return
    assert expected['images'] == found['images']
    for image in found['images']['images']:
        boxes, scores, labels, masks = [], [], [], []
        for part in (found, expected):
            objects = [item for item in part['results.bbox'] if item['image_id'] == image['id']]
            boxes.append(np.array([item['bbox'] for item in objects]))
            scores.append(np.array([item['score'] for item in objects]))
            labels.append(np.array([item['category_id'] for item in objects]))
            masks.append([item['segmentation'] for item in part['results.segm'] if item['image_id'] == image['id']])
        assert len(labels[0]) == len(labels[1]) == len(masks[0]) == len(masks[1]) > 5
        # Boxes of equal score may come in another order.
        apart = np.abs(boxes[0][None] - boxes[1][:, None]).max(-1) + 1e3 * (labels[0][None] != labels[1][:, None])
        nearest = np.maximum(apart, np.abs(scores[0][None] - scores[1][:, None])).argmin(1)
        assert sorted(nearest) == list(range(len(nearest)))
        assert apart[range(len(nearest)), nearest].max() < 1e-3 and np.abs(scores[0][nearest] - scores[1]).max() < 1e-3
        for mask, index in zip(masks[1], nearest):
            assert pycocotools.mask.iou([mask], [masks[0][index]], [False]) > 0.99


def test_detector(root, tmp_path, monkeypatch, tiny_coco, tiny_config, run_tool, call):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = build_from(Config.fromfile(tiny_config))
    for key, weight in model.named_parameters():
        if 'cls' in key and weight.dim() > 1:
            nn.init.normal_(weight, std=1.5 / weight[0].numel()**0.5)
    meta = dict(dataset_meta=dict(classes=('dark', 'light')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), 'model.pth')
    printed = call('tools/deployment/export.py', tiny_config, 'model.pth', 'model.onnx', '--dynamic', 'batch', 'size',
                   '--verify', tiny_coco / 'val2017', '--cfg-options',
                   'test_dataloader.dataset.pipeline.2.scale="(320,256)"')
    again, total, boxes = re.search(r'images: (\d+) of (\d+) .* boxes within (\S+) px', printed).groups()
    assert again == total and int(total) > 5 and float(boxes) < 1e-3

    infer = root / 'tools/deployment/infer_onnx.py'
    process = run_tool('python', infer, tiny_coco / 'val2017', 'model.onnx', '--out-dir', 'out', '--draw', cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    call('tools/infer.py', tiny_coco / 'val2017', tiny_config, 'model.pth', '--out-dir', 'torch', '--cfg-options',
         'test_dataloader.dataset.pipeline.2.scale="(320,256)"')
    agree(tmp_path / 'torch', tmp_path / 'out')
    for path in (tiny_coco / 'val2017').glob('*'):
        assert (tmp_path / 'out/pictures' / path.name).stat().st_size

    printed = call('tools/deployment/test_onnx.py', tiny_config, 'model.onnx', '--data-root', tiny_coco)
    assert re.search(r'coco/segm_mAP_50: \d', printed)


def test_classifier(root, tmp_path, monkeypatch, classifier, call):
    """Images of all kinds; those that cannot be used are skipped."""
    monkeypatch.chdir(tmp_path)
    rng, images = np.random.default_rng(0), tmp_path / 'images'
    (images / 'deeper').mkdir(parents=True)
    for name, shape, kind, most in (
            ('colour.jpg', (90, 130, 3), np.uint8, 256), ('grey.png', (70, 60), np.uint8, 256),
            ('alpha.png', (64, 64, 4), np.uint8, 256), ('deeper/16-bits.png', (80, 64, 3), np.uint16, 2**16),
            ('12-bits.tiff', (80, 64), np.uint16, 2**12), ('line.png', (1, 2000, 3), np.uint8, 256),
            ('grey.pgm', (70, 60), np.uint8, 256)):
        assert cv2.imwrite(str(images / name), rng.integers(0, most, shape).astype(kind))
    (images / 'none.jpg').write_bytes(b'no image')
    call('tools/infer.py', images, *classifier, '--out-dir', 'torch')
    printed = call('tools/deployment/export.py', *classifier, 'new/model.onnx', '--verify', images / 'colour.jpg')
    assert '1 images: 1 of 1 top-1' in printed
    call('tools/deployment/infer_onnx.py', images, 'new/model.onnx', '--out-dir', 'onnx', '--draw')
    agree(tmp_path / 'torch', tmp_path / 'onnx')
    assert (tmp_path / 'onnx/pictures/grey.pgm.png').is_file()
    assert len(json.loads((tmp_path / 'onnx/predictions.json').read_text())['images']) == 6

    call('tools/deployment/export.py', *classifier, 'model.pt2', '--dynamic', 'batch')
    program, pixels = torch.export.load('model.pt2').module(), torch.rand(3, 3, 64, 64) * 255
    session = runpy.run_path(str(root / 'tools/deployment/infer_onnx.py'))['open_session']('new/model.onnx')
    for image, scores in zip(pixels, program(image=pixels)[0]):
        found, = session.run(None, dict(image=image[None].numpy()))
        np.testing.assert_allclose(found[0], scores, atol=1e-5)

    shutil.copy('new/model.onnx', 'cut.onnx')
    with open('cut.onnx', 'r+b') as file:
        file.truncate(100_000)
    for arguments, message in (
            (('infer_onnx.py', images, 'cut.onnx', '--out-dir', 'out'), 'error: model cut.onnx cannot be loaded'),
            (('infer_onnx.py', images, 'no.onnx', '--out-dir', 'out'), 'error: model no.onnx does not exist'),
            (('infer_onnx.py', images / 'line.png', 'new/model.onnx', '--out-dir', 'out'), 'error: none of the 1'),
            (('infer_onnx.py', 'new', 'new/model.onnx', '--out-dir', 'out'), 'error: new is neither an image nor'),
            (('infer_onnx.py', images, 'new/model.onnx', '--out-dir', 'cut.onnx'), 'error: .*cut.onnx'),
            (('export.py', *classifier, 'cut.onnx/model.onnx'), 'error: cannot write cut.onnx/model.onnx'),
            (('export.py', *classifier, 'a.onnx', '--verify', 'new'), 'error: new is neither an image nor'),
            (('export.py', *classifier, 'a.onnx', '--int8', images / 'none.jpg'), 'error: .*none.jpg is no image')):
        with pytest.raises(SystemExit, match=message):
            call(f'tools/deployment/{arguments[0]}', *arguments[1:])


def test_backbone(tmp_path, monkeypatch, classifier, call):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('image.png', np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8))
    printed = call('tools/deployment/export.py', *classifier, 'maps.onnx', '--backbone', '--verify', 'image.png')
    assert float(re.search(r'1 images: maps within (\S+) of their norm', printed)[1]) < 1e-5
    with pytest.raises(SystemExit, match='error: model maps.onnx is no classifier or detector'):
        call('tools/deployment/infer_onnx.py', 'image.png', 'maps.onnx', '--out-dir', 'out')


@pytest.mark.parametrize('transform', [
    dict(type='mmdet.RandomCrop', crop_size=(8, 8)),
    dict(type='mmpretrain.ResizeEdge', scale=8, backend='pillow', interpolation='lanczos'),
])
def test_pipelines_that_a_device_cannot_follow(transform):
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=[transform]))))
    with pytest.raises(UserError, match='the test pipeline .* which an exported model cannot ask for'):
        image_steps(cfg, None)
