"""Finding, reading and overriding configs of either family."""

import argparse

import pytest

from mmltm.apis.cli import add_common_arguments
from mmltm.apis.config import find_config, load_config
from mmltm.errors import UserError


def write(path, text):
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize('name, suggestion', [
    ('configs/mask_rcnn_ltm_effvit_b1_1.py', 'configs/mask_rcnn_ltm_effvit_b1_1x.py'),
    ('mask_rcnn_ltm_effvit_mini', 'mini/mask_rcnn_ltm_effvit_mini.py'),
    ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coc.py', 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'),
    ('mmpretrain::resnet/resnet18_in1k.py', 'mmpretrain::resnet/resnet18_8xb32_in1k.py'),
])
def test_unknown_config_suggests_names(name, suggestion):
    with pytest.raises(UserError, match='does not exist; did you mean') as error:
        find_config(name)
    assert suggestion in str(error.value)


def test_unknown_config_and_package():
    with pytest.raises(UserError, match='config zzz.py does not exist$'):
        find_config('zzz.py')
    with pytest.raises(UserError, match='no package nothing is installed'):
        find_config('nothing::a/b.py')


@pytest.mark.parametrize('text, message', [
    ('a = (', 'cannot read config .* SyntaxError'),
    ("_base_ = 'gone.py'", 'cannot read config .*gone.py'),
    ('a = 1', 'has default_scope None; expected one of mmdet, mmpretrain'),
    ("default_scope = 'mmpose'", "has default_scope 'mmpose'"),
])
def test_unusable_config(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load_config(write(tmp_path / 'c.py', text))


PIPELINES = """
default_scope = 'mmdet'
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(1333, 800))]
train_dataloader = dict(dataset=dict(type='CocoDataset', pipeline=train_pipeline))
"""


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    return parser.parse_args(words).cfg_options


@pytest.mark.parametrize('option', ['a', 'a=(1,2', 'a=7x=[1,2]'])
def test_options_that_cannot_be_parsed(capsys, option):
    with pytest.raises(SystemExit):
        parsed('--cfg-options', option)
    assert 'error: argument --cfg-options' in capsys.readouterr().err


def test_new_keys_are_declared(tmp_path):
    path = write(tmp_path / 'c.py', PIPELINES)
    with pytest.raises(UserError, match='nothing reads mine .a key that is new: --cfg-options-new.'):
        load_config(path, parsed('--cfg-options', 'mine.depth=1'))
    cfg = load_config(path, parsed('--cfg-options-new', 'mine.depth=1', '--cfg-options', 'load_from=a.pth'))
    assert cfg.mine.depth == 1 and cfg.load_from == 'a.pth'


def test_keys_of_arguments_that_the_config_leaves_out(tmp_path):
    path = write(tmp_path / 'c.py', PIPELINES)
    options = {'train_dataloader.dataset.metainfo.classes': ('cat', ), 'train_dataloader.batch_size': 2,
               'randomness.seed': 0, 'train_dataloader.dataset.indices': 4}
    cfg = load_config(path, options)
    assert cfg.train_dataloader.dataset.metainfo.classes == ('cat', ) and cfg.randomness.seed == 0


@pytest.mark.parametrize('merger', ['', ", merger=dict(type='LTM', ratio=0.7)"])
def test_keys_of_mergers(tmp_path, merger):
    path = write(tmp_path / 'c.py', "default_scope = 'mmdet'\n"
                 f"model = dict(backbone=dict(type='mmltm.LTMSwin'{merger}))")
    at = 'model.backbone.merger'
    assert load_config(path, {f'{at}.window': 5, f'{at}.step_norm': 'none'}).model.backbone.merger.window == 5
    assert load_config(path, {f'{at}.type': 'ToMe', f'{at}.r': 8}).model.backbone.merger.r == 8
    for wrong, right in (('windw', '; did you mean .*.window'), ('num_class', '; did you mean .*.num_classes'),
                         ('source', '')):
        with pytest.raises(UserError, match=f'nothing reads {at}.{wrong}{right}'):
            load_config(path, {f'{at}.{wrong}': 5})


@pytest.mark.parametrize('key', ['train_pipeline.1.scale', 'train_dataloader.dataset.pipeline.1.scale'])
def test_keys_into_lists(tmp_path, key):
    cfg = load_config(write(tmp_path / 'c.py', PIPELINES), {key: (64, 64)})
    first, second = cfg.train_dataloader.dataset.pipeline
    assert second.scale == (64, 64) and first.type == 'LoadImageFromFile'


def test_config_lacks_what_is_needed(tmp_path):
    path = write(tmp_path / 'c.py', "default_scope = 'mmdet'\nmodel = dict()\ntrain_cfg = None")
    with pytest.raises(UserError, match='c.py has no train_dataloader, train_cfg$'):
        load_config(path, needs=('model', 'train_dataloader', 'train_cfg'))


def test_work_dir(tmp_path):
    path = write(tmp_path / 'name.py', "default_scope = 'mmdet'")
    assert load_config(path).work_dir == 'work_dirs/name'
    assert load_config(path, {'work_dir': 'own'}).work_dir == 'own'
    assert load_config(path, {'work_dir': 'own'}, work_dir='given').work_dir == 'given'


def test_loader_defaults(tmp_path):
    text = ("default_scope = '{}'\n"
            "train_dataloader = dict(num_workers={}, persistent_workers=True, dataset=dict(type='CocoDataset'))")
    loader = load_config(write(tmp_path / 'a.py', text.format('mmdet', 0))).train_dataloader
    assert loader.persistent_workers is False  # PyTorch refuses them without workers
    assert 'collate_fn' not in loader
    loader = load_config(write(tmp_path / 'b.py', text.format('mmpretrain', 2))).train_dataloader
    assert loader.persistent_workers is True
    assert loader.collate_fn.type == 'default_collate'
