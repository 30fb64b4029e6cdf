"""Dumped predictions reproduce the printed scores; pictures go where the user says."""

import contextlib
import io
import json
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmltm.apis.outputs import finish_out, set_out, set_show

SIZE = 200
IMAGES = 6


def ellipse(box):
    """A mask much smaller than its box, so that the two differ in COCO's classes of area."""
    x, y, w, h = box
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    return ((columns - x - w / 2) / (w / 2))**2 + ((rows - y - h / 2) / (h / 2))**2 <= 1


@pytest.fixture
def truth(tmp_path):
    """Annotations of one object per image, with sides on both sides of COCO's limits of 32 and 96."""
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(IMAGES):
        box = [20, 20, *(int(side) for side in rng.integers(30, 120, 2))]
        mask = ellipse(box)
        rle = mask_utils.encode(np.asfortranarray(mask))
        annotations.append(dict(
            id=i + 1, image_id=i, category_id=7 + i % 2, iscrowd=0, bbox=box, area=int(mask.sum()),
            segmentation=dict(size=rle['size'], counts=rle['counts'].decode())))
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=SIZE, height=SIZE) for i in range(IMAGES)],
        annotations=annotations, categories=[dict(id=7, name='a'), dict(id=8, name='b')])
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(content))
    return path


def predictions(truth):
    """Each object, displaced, and a false one, of random scores."""
    rng = np.random.default_rng(1)
    for annotation in json.loads(truth.read_text())['annotations']:
        displaced = np.array(annotation['bbox']) + rng.uniform(-4, 4, 4)
        boxes = [displaced, np.array([100, 100, *rng.uniform(20, 90, 2)])]
        corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
        yield dict(
            img_id=annotation['image_id'], ori_shape=(SIZE, SIZE),
            pred_instances=dict(
                bboxes=torch.tensor(np.array(corners), dtype=torch.float32),
                scores=torch.tensor(rng.random(2)),
                labels=torch.tensor([annotation['category_id'] - 7, int(rng.integers(2))]),
                masks=torch.tensor(np.stack([ellipse(box) for box in boxes]))))


def pycocotools_scores(truth, results, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(truth))
        evaluation = COCOeval(annotations, annotations.loadRes(str(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_pycocotools_reproduces_the_scores(truth, tmp_path):
    cfg = Config(dict(default_scope='mmdet', test_evaluator=dict(
        type='CocoMetric', ann_file=str(truth), metric=['bbox', 'segm'])))
    set_out(cfg, str(tmp_path / 'results.pkl'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = Evaluator(cfg.test_evaluator)
    evaluator.dataset_meta = dict(classes=('a', 'b'))
    for prediction in predictions(truth):
        evaluator.process([prediction])
    printed = evaluator.evaluate(IMAGES)
    finish_out(cfg)

    for kind in ('bbox', 'segm'):
        stats = pycocotools_scores(truth, tmp_path / f'results.{kind}.json', kind)
        for i, name in enumerate(('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')):
            assert printed[f'coco/{kind}_{name}'] == pytest.approx(stats[i], abs=6e-4)  # printed to 3 digits
    assert 0.1 < printed['coco/segm_mAP'] < 0.9
    assert len(pickle.loads((tmp_path / 'results.pkl').read_bytes())) == IMAGES


def test_several_metrics_write_files_of_their_own():
    cfg = Config(dict(default_scope='mmdet', test_evaluator=[
        dict(type='mmdet.CocoMetric'), dict(type='VOCMetric'), dict(type='CocoMetric')]))
    set_out(cfg, 'a/foo.pkl')
    assert [metric.get('outfile_prefix') for metric in cfg.test_evaluator] == ['a/foo', None, 'a/foo.1', None]
    assert cfg.test_evaluator[-1] == dict(type='DumpDetResults', out_file_path='a/foo.pkl')


def test_classification_dumps_predictions():
    cfg = Config(dict(default_scope='mmpretrain', test_evaluator=dict(type='Accuracy')))
    set_out(cfg, 'foo.pkl')
    assert [metric.type for metric in cfg.test_evaluator] == ['Accuracy', 'DumpResults']


def test_json_holds_what_the_pickle_does(tmp_path):
    path = tmp_path / 'foo.json'
    cfg = Config(dict(default_scope='mmpretrain', test_evaluator=[]))
    set_out(cfg, str(path))
    dumped = cfg.test_evaluator[-1].out_file_path
    masks = [dict(size=[2, 2], counts=b'04')]
    pickled = [dict(img_id=np.int64(3), ori_shape=(2, 2), scores=torch.tensor([0.5]), masks=masks, boxes=np.eye(2))]
    with open(dumped, 'wb') as file:
        pickle.dump(pickled, file)
    finish_out(cfg)
    assert json.loads(path.read_text()) == [dict(
        img_id=3, ori_shape=[2, 2], scores=[0.5], masks=[dict(size=[2, 2], counts='04')], boxes=[[1, 0], [0, 1]])]
    assert [file.name for file in tmp_path.iterdir()] == ['foo.json']


def test_pictures_go_to_the_folder_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hooks = dict(visualization=dict(type='Own', score_thr=0.5))
    cfg = Config(dict(default_scope='mmdet', default_hooks=hooks))
    set_show(cfg, show=False, show_dir='pictures', wait_time=2)
    assert cfg.default_hooks.visualization == dict(
        type='Own', score_thr=0.5, draw=True, test_out_dir=str(tmp_path / 'pictures'), show=False,
        wait_time=2)
    cfg = Config(dict(default_scope='mmpretrain', default_hooks=hooks))
    set_show(cfg, show=True, show_dir=None, wait_time=1)
    assert cfg.default_hooks.visualization == dict(
        type='Own', score_thr=0.5, enable=True, interval=1, out_dir=None, show=True, wait_time=1)
    for scope, options in (('mmdet', dict(pred_score_thr=0.3)), ('mmpretrain', {})):
        cfg = Config(dict(default_scope=scope))
        set_show(cfg, show=False, show_dir='pictures', wait_time=2)
        assert cfg.default_hooks.visualization == dict(
            type='mmltm.PicturesHook', folder=str(tmp_path / 'pictures'), show=False, wait_time=2, **options)
