"""A COCO folder of six small images, a config that trains on it in seconds, and a way to run the tools."""

import json
import os
import socket
import subprocess
import sys

import cv2
import numpy as np
import pytest

CLASSES = ('dark', 'light')
SIZE = 64

CONFIG = """
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::_base_/datasets/coco_instance.py',
          'mmdet::_base_/schedules/schedule_1x.py', 'mmdet::_base_/default_runtime.py']
roi = dict(in_channels=16, num_classes=2)
extractor = dict(out_channels=16)
model = dict(
    backbone=dict(depth=18, base_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=extractor, mask_roi_extractor=extractor,
        bbox_head=dict(fc_out_channels=32, **roi), mask_head=dict(num_convs=1, conv_out_channels=16, **roi)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=50, max_per_img=20), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=20), rcnn=dict(score_thr=0., max_per_img=10)))
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='Resize', scale=(64, 64))]
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
metainfo = dict(classes=('dark', 'light'))
train_dataloader = dict(
    num_workers=1,
    dataset=dict(metainfo=metainfo, pipeline=[*load, dict(type='PackDetInputs')]))
val_dataloader = dict(
    num_workers=0,
    dataset=dict(metainfo=metainfo, pipeline=[*load, dict(type='PackDetInputs', meta_keys=keys)]))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=0.001))
default_hooks = dict(logger=dict(interval=1))
"""


def write_coco(folder, splits):
    """Writes a COCO folder with a rectangle of either class in each image.

    Args:
        folder (Path): Where to.
        splits (dict[str, int]): Number of images by the name of the split.
    """
    rng = np.random.default_rng(0)
    (folder / 'annotations').mkdir(parents=True)
    for split, count in splits.items():
        (folder / split).mkdir()
        images, annotations = [], []
        for i in range(count):
            image = rng.integers(100, 156, (SIZE, SIZE, 3), np.uint8)
            name = f'{i:03}.png'
            images.append(dict(id=i, file_name=name, width=SIZE, height=SIZE))
            for category, value in enumerate((0, 255)):
                x, y = (int(v) for v in rng.integers(0, SIZE - 24, 2))
                image[y:y + 20, x:x + 20] = value
                corners = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=i, category_id=category + 1, iscrowd=0, area=400,
                    bbox=[x, y, 20, 20], segmentation=[corners]))
            cv2.imwrite(str(folder / split / name), image)
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
        content = dict(images=images, annotations=annotations, categories=categories)
        (folder / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


@pytest.fixture(scope='module')
def tiny_coco(tmp_path_factory):
    """A folder in COCO's layout: 4 images for training, 2 for validation."""
    folder = tmp_path_factory.mktemp('data') / 'coco'
    write_coco(folder, dict(train2017=4, val2017=2))
    return folder


@pytest.fixture(scope='module')
def tiny_config(tmp_path_factory):
    """A small Mask R-CNN on mmdet's own backbone, for :func:`tiny_coco`."""
    path = tmp_path_factory.mktemp('configs') / 'tiny.py'
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope='session')
def run_tool(root):
    """A function that calls a command as a user would, on the CPU, and returns the finished process."""

    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])

    def run(*command, cwd):
        env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PORT=port)
        env['PATH'] = f'{os.path.dirname(sys.executable)}{os.pathsep}{env["PATH"]}'
        return subprocess.run(
            [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)

    return run
