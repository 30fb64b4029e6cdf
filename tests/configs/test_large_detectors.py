"""Detectors on ViTDet and DINOv2 learn from a few real images, and predict, by the tools; nightly.

The networks are small. As they are: MMLTM_LARGE=1 python -m pytest -m nightly tests/configs/test_large_detectors.py
"""

import json
import os
import subprocess
import sys

import pytest

CONFIG = """
_base_ = '{base}'
size = {size}
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='Resize', scale=size)]
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
dataset = dict(_delete_=True, type='CocoDataset', data_root='{data}', indices=4)
model = dict(backbone=dict(pretrained=None, img_size=size, **{arch}), neck=dict(in_channels={channels}),
             data_preprocessor=dict(batch_augments=None),
             train_cfg=dict(rpn_proposal=dict(max_per_img=64), rcnn=dict(sampler=dict(num=32))),
             test_cfg=dict(rpn=dict(max_per_img=64)))
train_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False,
    dataset=dict(ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017/'),
                 filter_cfg=dict(filter_empty_gt=True), pipeline=[*load, dict(type='PackDetInputs')], **dataset))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017/'), test_mode=True,
                 pipeline=[load[0], load[2], load[1], dict(type='PackDetInputs', meta_keys=keys)], **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{data}/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs={epochs}, val_interval=100)
param_scheduler = []
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None))
randomness = dict(seed=0)
"""
VIT = dict(embed_dims=64, num_layers=4, num_heads=2, feedforward_channels=256)
SMALL = dict(vitdet_b_100e=dict(VIT, global_attn_indexes=[1, 3]), dinov2_b_1x=VIT)


@pytest.mark.nightly
@pytest.mark.parametrize('name', SMALL)
def test_learns_and_predicts(name, root, shared, tmp_path):
    large = 'MMLTM_LARGE' in os.environ
    config, work_dir = tmp_path / 'config.py', tmp_path / 'work'
    side = (512 if large else 128) // 16 * (16 if 'vitdet' in name else 14)
    config.write_text(CONFIG.format(
        base=root / 'configs' / f'mask_rcnn_ltm_{name}.py', data=shared / 'data' / 'coco', size=(side, side),
        arch={} if large else dict(arch=dict(SMALL[name], _delete_=True)), channels=768 if large else 64,
        epochs=6))

    def tool(*arguments):
        process = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True)
        assert process.returncode == 0, process.stderr[-3000:]

    tool(root / 'tools' / 'train.py', config, '--work-dir', work_dir)
    scalars, = work_dir.glob('*/vis_data/scalars.json')
    losses = [line['loss'] for line in map(json.loads, scalars.read_text().splitlines()) if 'loss' in line]
    print(name, [round(loss, 3) for loss in losses])
    count = len(losses) // 3
    assert count >= 4 and sum(losses[-count:]) < 0.8 * sum(losses[:count])
    image = next((shared / 'data' / 'coco' / 'val2017').iterdir())
    tool(root / 'tools' / 'infer.py', image, config, work_dir / f'epoch_{len(losses) // 4}.pth', '--out-dir', tmp_path)
