"""A whole detector goes through the tools: exported, compared with PyTorch, run without it, and scored."""

import json
import re

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmltm.apis.export_metadata import image_steps
from mmltm.errors import UserError
from mmltm.models.builder import build_from


def test_detector(root, tmp_path, tiny_coco, tiny_config, run_tool):
    torch.manual_seed(0)
    model = build_from(Config.fromfile(tiny_config))
    for key, weight in model.named_parameters():
        if 'cls' in key and weight.dim() > 1:
            nn.init.normal_(weight, std=1.5 / weight[0].numel()**0.5)
    checkpoint, exported, tools = tmp_path / 'model.pth', tmp_path / 'model.onnx', root / 'tools/deployment'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('dark', 'light')))), checkpoint)
    process = run_tool('python', tools / 'export.py', tiny_config, checkpoint, exported, '--dynamic', 'batch', 'size',
                       '--verify', tiny_coco / 'val2017', cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    again, total, boxes = re.search(r'images: (\d+) of (\d+) .* boxes within (\S+) px', process.stdout).groups()
    assert again == total and int(total) > 5 and float(boxes) < 1e-3

    process = run_tool('python', tools / 'infer_onnx.py', tiny_coco / 'val2017', exported, '--out-dir', 'out',
                       cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    predictions = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert predictions['classes'] == ['dark', 'light'] and not predictions['skipped']
    for name, found in predictions['images'].items():
        assert len(found['labels']) == len(found['scores']) == len(found['bboxes']) == len(found['masks'])
        assert found['masks'][0]['size'] == [64, 64] and (tmp_path / 'out/pictures' / name).stat().st_size

    process = run_tool('python', tools / 'test_onnx.py', tiny_config, exported, '--data-root', tiny_coco, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert re.search(r'coco/segm_mAP_50: \d', process.stdout + process.stderr)


@pytest.mark.parametrize('transform', [
    dict(type='mmdet.RandomCrop', crop_size=(8, 8)),
    dict(type='mmpretrain.ResizeEdge', scale=8, backend='pillow', interpolation='lanczos'),
])
def test_pipelines_that_a_device_cannot_follow(transform):
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=[transform]))))
    with pytest.raises(UserError, match='the test pipeline .* which an exported model cannot ask for'):
        image_steps(cfg, None)
