"""tools/infer.py, run as a user runs it, and what it says about input that it cannot use."""

import contextlib
import io
import json
import re
import runpy
import shutil
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

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
    folder = tmp_path_factory.mktemp('detector')
    Config.fromfile(tiny_config).dump(folder / 'detector.py')  # without bases, which take a second to find
    return folder / 'detector.py', save_untrained(folder / 'detector.py', folder)


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


def make_video(path, frames=6, fourcc='mp4v'):
    """Writes a video of 12.5 frames per second, 80 x 48, frame by frame brighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), 12.5, (80, 48))
    for index in range(frames):
        writer.write(np.full((48, 80, 3), 255 * index // frames, np.uint8))
    writer.release()


@pytest.fixture
def infer(root, monkeypatch, tmp_path):
    """Runs tools/infer.py in this process with results in ``out``; returns its error line, or None."""

    def run(*arguments, tool='infer.py'):
        monkeypatch.chdir(tmp_path)
        defaults = ['--out-dir', 'out', '--device', 'cpu'] if tool == 'infer.py' else []
        monkeypatch.setattr(sys, 'argv', [tool, *defaults, *map(str, arguments)])
        try:
            runpy.run_path(str(root / 'tools' / tool), run_name='__main__')
        except SystemExit as stop:
            assert '\n' not in stop.code
            return stop.code

    return run


def read(folder, name='predictions.json'):
    return json.loads((folder / name).read_text())


def test_folder_of_a_detector(run_tool, root, detector, folder, tmp_path):
    process = run_tool(
        sys.executable, root / 'tools' / 'infer.py', folder, *detector, '--out-dir', 'results/pets', '--batch-size',
        2, '--score-thr', 0.1, '--draw', cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    assert f'skipped broken.jpg: cannot decode image {folder}/broken.jpg ' in process.stderr
    assert '3 images done, 1 skipped' in process.stdout and '100%' in process.stdout
    rate, *shares = re.search(r'3 images in \S+ s: (\S+) frames per second \(decoding (\d+)%, model (\d+)%, '
                              r'drawing (\d+)%, writing (\d+)%\)', process.stdout).groups()
    assert float(rate) > 0 and 80 < sum(map(int, shares)) <= 102
    out = tmp_path / 'results' / 'pets'
    listed = read(out, 'images.json')
    assert listed['categories'] == [dict(id=1, name='dark'), dict(id=2, name='light')]
    assert [tuple(image.values()) for image in listed['images']] == [
        (1, 'a.png', 48, 80), (2, 'b.jpg', 64, 64), (4, 'c.PNG', 48, 80)]
    assert listed['skipped'] == ['broken.jpg'] and 'ids of images and categories count from 1' in process.stdout
    boxes, masks = read(out, 'results.bbox.json'), read(out, 'results.segm.json')
    assert len(boxes) == len(masks) > 0
    shapes = {image['id']: (image['height'], image['width']) for image in listed['images']}
    for box, mask in zip(boxes, masks):
        assert coco_masks.decode(mask.pop('segmentation')).shape == shapes[box['image_id']]
        del box['bbox']
        assert box == mask
    assert len(COCO(out / 'images.json').loadRes(str(out / 'results.segm.json')).anns) == len(masks)
    for image in listed['images']:
        picture, original = (cv2.imread(str(where / image['file_name'])) for where in (out / 'pictures', folder))
        assert picture.shape == original.shape and (picture != original).any()


def score(truth, results, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(str(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_pycocotools_scores_results_as_tools_test_does(infer, detector, tiny_coco, tmp_path, capsys):
    options = ['--data-root', tiny_coco, '--cfg-options', 'model.test_cfg.rcnn.max_per_img=100']
    assert infer(*detector, '--out', 'tested.json', *options, tool='test.py') is None
    capsys.readouterr()
    assert infer(tiny_coco / 'val2017', *detector, '--batch-size', 2, *options) is None
    assert f'are those of {tiny_coco}/annotations/instances_val2017.json' in capsys.readouterr().out
    assert [image['id'] for image in read(tmp_path / 'out', 'images.json')['images']] == [0, 1]
    # An untrained model finds nothing that there is, so there be something of what it finds.
    content = read(tiny_coco / 'annotations', 'instances_val2017.json')
    pairs = zip(*(read(tmp_path, f'tested.{kind}.json') for kind in ('bbox', 'segm')))
    content['annotations'] = [dict(box, **mask, id=i, iscrowd=0, area=int(coco_masks.area(mask['segmentation'])))
                              for i, (box, mask) in enumerate(pairs, 1) if i % 7 == 0]
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    truth = COCO(tmp_path / 'truth.json')
    for kind in ('bbox', 'segm'):
        expected = score(truth, tmp_path / f'tested.{kind}.json', kind)
        assert 0 < expected[0] < 1
        np.testing.assert_array_equal(score(truth, tmp_path / f'out/results.{kind}.json', kind), expected)


def test_video(infer, detector, tmp_path, capsys):
    make_video(tmp_path / 'street.avi', fourcc='MJPG')
    assert infer('street.avi', *detector, '--batch-size', 4, '--draw', '--score-thr', 0) is None
    assert '6 images done, 0 skipped' in capsys.readouterr().out
    listed = read(tmp_path / 'out', 'images.json')['images']
    assert [(image['id'], image['file_name']) for image in listed] == [(i, f'street.avi#{i}') for i in range(1, 7)]
    assert {result['image_id'] for result in read(tmp_path / 'out', 'results.bbox.json')} == {*range(1, 7)}
    drawn = cv2.VideoCapture(str(tmp_path / 'out' / 'street.mp4'))
    assert drawn.get(cv2.CAP_PROP_FPS) == 12.5
    frames = [drawn.read()[1] for _ in range(6)]
    assert frames[5].shape == (48, 80, 3) and frames[5].mean() > frames[1].mean() and not drawn.read()[0]
    assert 'would take the place of' in infer('out/street.mp4', *detector, '--draw')


def test_faulty_videos(infer, classifier, tmp_path, capsys):
    make_video(tmp_path / 'whole.mkv', 30)
    content = (tmp_path / 'whole.mkv').read_bytes()
    (tmp_path / 'short.mkv').write_bytes(content[:len(content) // 2])
    assert infer('short.mkv', *classifier) is None
    result = read(tmp_path / 'out')
    count = len(result['images'])
    assert 0 < count < 30 and result['skipped'] == [f'short.mkv#{count + 1}-30']
    assert f'skipped short.mkv#{count + 1}-30: the video ends before' in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'short.mp4').exists()  # nobody asked for it
    for name, damaged in (('head.mkv', content[:200]), ('empty.mp4', b''), ('text.mov', b'no video')):
        (tmp_path / name).write_bytes(damaged)
        assert infer(name, *classifier).startswith(f'error: video {name} holds no frame that OpenCV can decode')
    make_video(tmp_path / 'none.avi', 0, 'MJPG')
    assert infer('none.avi', *classifier).startswith('error: video none.avi holds no frame')


def test_pattern(infer, classifier, folder, tmp_path):
    assert infer(f'{folder}/?.[jJpP][nNpP]*', *classifier) is None
    assert list(read(tmp_path / 'out')['images']) == ['a.png', 'b.jpg', 'c.PNG']
    assert not (tmp_path / 'out' / 'pictures').exists()


def test_image_of_a_classifier(infer, classifier, folder, tmp_path):
    assert infer(folder / 'a.png', *classifier) is None
    result = read(tmp_path / 'out')
    predicted = result['images']['a.png']
    assert result['classes'] == ['cat', 'dog', 'owl'] and result['skipped'] == []
    assert sum(predicted['pred_scores']) == pytest.approx(1, abs=1e-4)
    assert predicted['pred_class'] == result['classes'][predicted['pred_label']]
    assert predicted['pred_score'] == pytest.approx(max(predicted['pred_scores']))
    assert (cv2.imread(str(tmp_path / 'out' / 'pictures' / 'a.png')) != cv2.imread(str(folder / 'a.png'))).any()


def test_batches_predict_what_single_images_do(infer, classifier, folder, tmp_path):
    scores = []
    for size in (1, 3):
        assert infer(folder, *classifier, '--batch-size', size) is None
        scores.append([image['pred_scores'] for image in read(tmp_path / 'out')['images'].values()])
    np.testing.assert_allclose(*scores, atol=1e-5)
    assert not (tmp_path / 'out' / 'pictures').exists()


def test_classes_of_the_checkpoint_come_first(infer, classifier, folder, tmp_path):
    config, checkpoint = classifier
    content = torch.load(checkpoint)
    torch.save(dict(content, meta=dict(dataset_meta=dict(classes=('x', 'y', 'z')))), tmp_path / 'named.pth')
    assert infer(folder / 'a.png', config, 'named.pth') is None
    assert read(tmp_path / 'out')['classes'] == ['x', 'y', 'z']


def test_one_line_on_what_is_wrong(infer, detector, classifier, folder, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'bad').mkdir()
    shutil.copy(folder / 'broken.jpg', tmp_path / 'bad')
    config, checkpoint = detector
    image = folder / 'a.png'
    for arguments, line in (
        (('nowhere.jpg', config, checkpoint), 'error: image, video or folder nowhere.jpg does not exist'),
        (('no*.jpg', config, checkpoint), 'error: pattern no*.jpg matches no image (.jpg, .jpeg,'),
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
