"""A whole detector goes through the tools: exported, compared with PyTorch, run without it, and scored."""

import json
import re
import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmltm.apis.export_metadata import image_steps
from mmltm.errors import UserError
from mmltm.models.builder import build_from


@pytest.fixture
def call(root, monkeypatch, capsys):
    """A function that runs a tool within this process, which has imported OpenMMLab already: what it prints."""
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def call(tool, *arguments):
        monkeypatch.setattr(sys, 'argv', [str(tool), *map(str, arguments)])
        runpy.run_path(str(root / tool), run_name='__main__')
        return ''.join(capsys.readouterr())

    return call


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
    process = run_tool('python', infer, tiny_coco / 'val2017', 'model.onnx', '--out-dir', 'out', cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    predictions = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert predictions['classes'] == ['dark', 'light'] and not predictions['skipped']
    for name, found in predictions['images'].items():
        assert len(found['labels']) == len(found['scores']) == len(found['bboxes']) == len(found['masks'])
        assert found['masks'][0]['size'] == [64, 64] and (tmp_path / 'out/pictures' / name).stat().st_size

    printed = call('tools/deployment/test_onnx.py', tiny_config, 'model.onnx', '--data-root', tiny_coco)
    assert re.search(r'coco/segm_mAP_50: \d', printed)


@pytest.mark.parametrize('transform', [
    dict(type='mmdet.RandomCrop', crop_size=(8, 8)),
    dict(type='mmpretrain.ResizeEdge', scale=8, backend='pillow', interpolation='lanczos'),
])
def test_pipelines_that_a_device_cannot_follow(transform):
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=[transform]))))
    with pytest.raises(UserError, match='the test pipeline .* which an exported model cannot ask for'):
        image_steps(cfg, None)
