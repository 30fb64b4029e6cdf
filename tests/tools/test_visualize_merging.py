"""tools/visualization/visualize_merging.py: what it draws of a small model, and what it says about wrong input."""

import runpy
import sys

import cv2
import numpy as np
import pytest
import torch

from mmltm.apis.config import load_config
from mmltm.models.builder import build_model

CONFIG = """
_base_ = 'mmpretrain::_base_/default_runtime.py'
model = dict(
    type='ImageClassifier', backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', {merger}),
    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=128))
data_preprocessor = dict(num_classes=3, mean=[127] * 3, std=[64] * 3)
pipeline = [dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=64), dict(type='PackInputs')]
test_dataloader = dict(dataset=dict(type='CustomDataset', data_root='nowhere', pipeline=pipeline))
"""


@pytest.fixture
def files(tmp_path):
    """An image of 80 x 120 pixels, and configs with and without merging."""
    image = np.random.default_rng(0).integers(0, 255, (80, 120, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    (tmp_path / 'ltm.py').write_text(CONFIG.format(merger='ratio=0.5'))
    (tmp_path / 'vanilla.py').write_text(CONFIG.format(merger=''))
    return tmp_path


@pytest.fixture
def call(root, monkeypatch, files):
    """Runs the tool in this process; returns the picture."""

    def run(*arguments, image='image.png', config='ltm.py'):
        monkeypatch.chdir(files)
        monkeypatch.setattr(sys, 'argv', [
            'visualize_merging.py', image, config, *map(str, arguments), '--out-dir', 'pictures'])
        runpy.run_path(str(root / 'tools/visualization/visualize_merging.py'), run_name='__main__')
        return cv2.imread(str(files / 'pictures' / 'vis_image' / 'image_merging_0.png'))

    return run


def test_all_blocks_of_two_models(call, capsys):
    one = call()
    two = call('--compare', 'ltm.py', '--compare-options', 'model.backbone.ratio=0.94', '--groups', '--labels', 'half',
               'most')
    assert two.shape[0] > 2 * one.shape[0] and two.shape[1] >= one.shape[1]
    out = capsys.readouterr().out
    assert 'half: 4 blocks' in out and 'most: 2 blocks' in out  # the others round to the grid they have


def test_token_by_any_name_is_the_same(call):
    pictures = [call('--block', *arguments) for arguments in (
        ('0', '--token', '1', '1'), ('stages.2.mergers.0', '--token', '1', '1'), ('0', '--token', '5'))]
    # 4 x 6 cells become 3 x 4, so (1, 1) is the sixth token.
    assert all(np.array_equal(pictures[0], other) for other in pictures)
    assert not np.array_equal(pictures[0], call('--block', '0', '--point', '0.95', '0.95'))


def test_checkpoint(call, files):
    cfg = load_config(str(files / 'ltm.py'))
    model = build_model(cfg.model, cfg.default_scope)
    local = call('--block', '1', '--token', '0', '--labels', 'model')
    with torch.no_grad():
        model.backbone.stages[2].mergers[1].logits.neg_()
    torch.save(dict(state_dict=model.state_dict()), files / 'model.pth')
    assert not np.array_equal(local, call('model.pth', '--block', '1', '--token', '0', '--labels', 'model'))
    for merger in model.backbone.modules():
        if hasattr(merger, 'merging'):
            merger.merging.fill_(False)
    torch.save(dict(state_dict=model.state_dict()), files / 'warm.pth')
    with pytest.raises(SystemExit, match='error: warm.pth was saved before merging began'):
        call('warm.pth')
    with pytest.raises(SystemExit, match='error: checkpoint model.pth is of another model than the config: .*logits'):
        call('model.pth', '--cfg-options', 'model.backbone.ratio=0.9')


@pytest.mark.parametrize('options, arguments, message', [
    (dict(image='none.png'), (), 'image none.png does not exist'),
    (dict(image='ltm.py'), (), 'cannot decode image ltm.py'),
    (dict(config='vanilla.py'), (), 'the backbone LTMEfficientViT merges no tokens'),
    (dict(), ('none.pth', ), 'checkpoint none.pth does not exist'),
    (dict(), ('--block', '4'), '--block 4 is none of the 4 blocks: expected 0 to 3, or one of stages.2.mergers.0, '),
    (dict(), ('--block', '0', '--token', '3', '0'), r'--token 3 0 is outside the 3 x 4 tokens'),
    (dict(), ('--block', '0', '--token', '12'), '--token 12 is outside the 12 tokens'),
    (dict(), ('--backends', 'Nonsense'), 'cannot use the visualization backends'),
    (dict(), ('--compare', 'none.py'), 'config none.py does not exist')])
def test_mistakes_in_one_line(call, options, arguments, message):
    with pytest.raises(SystemExit) as stop:
        call(*arguments, **options)
    assert message in stop.value.code and '\n' not in stop.value.code and stop.value.code.startswith('error: ')


@pytest.mark.parametrize('arguments, message', [
    (('--token', '1'), 'of the block that --block names'), (('--point', '1', '0'), 'two shares in [0, 1)'),
    (('--labels', 'a', 'b'), 'one title for each model'), (('--compare', 'a', 'b', 'c'), 'if need be, a checkpoint'),
    (('--compare-options', 'a=1'), 'needs --compare')])
def test_wrong_usage(call, capsys, arguments, message):
    with pytest.raises(SystemExit):
        call(*arguments)
    assert message in capsys.readouterr().err
