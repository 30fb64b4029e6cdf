"""mmdet by itself, as in its own tools: nothing but the prefix ``mmltm.`` leads to the package."""

import os
import subprocess
import sys

#: A compiled extension that is there and is never called.
EXTENSION = """
def __getattr__(name):
    if name.startswith('_'):
        raise AttributeError(name)
    return None
"""
#: What mmdet's ``tools/train.py`` does up to the training, and a forward pass.
TOOL = """
import sys
import mmcv
mmcv.__path__.insert(0, sys.argv[1])
import mmdet.models
import torch
from mmengine.hub import get_config
from mmengine.runner import Runner

cfg = get_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
cfg.model.backbone = dict(type='mmltm.LTMEfficientViT', arch='b0', out_indices=(2, 3, 4), merger=dict(
    type='LTM', ratio=0.7, num_classes=80))
cfg.model.neck.update(in_channels=[32, 64, 128], start_level=0)
cfg.custom_hooks = [dict(type='mmltm.IBStatisticsHook')]
cfg.work_dir = sys.argv[1]
assert not [name for name in sys.modules if name.startswith('mmltm')]
runner = Runner.from_cfg(cfg)
scores, boxes = runner.model(torch.rand(1, 3, 64, 64), mode='tensor')
hooks = [type(hook).__module__ for hook in runner.hooks]
print(type(runner.model.backbone).__module__, [hook for hook in hooks if hook.startswith('mmltm')],
      [len(score[0]) for score in scores])
print(sys.modules['mmcv._ext'].__file__)
"""


def test_prefix_alone_imports_the_package(tmp_path, root):
    extension = tmp_path / '_ext.py'
    extension.write_text(EXTENSION)
    env = dict(os.environ, PYTHONPATH=str(root), CUDA_VISIBLE_DEVICES='')
    done = subprocess.run([sys.executable, '-c', TOOL, tmp_path], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    modules, loaded = done.stdout.splitlines()[-2:]
    assert modules == ("mmltm.models.backbones.ltm_efficientvit ['mmltm.engine.hooks.ib_statistics_hook'] "
                       '[720, 720, 720, 720, 720]')
    assert loaded == str(extension)
