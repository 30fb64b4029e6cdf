"""Every config below configs/, in whichever folder: found by its name alone, and its header says how to train it."""

from pathlib import Path

import pytest
import torch

from mmltm.apis.config import load_config
from mmltm.engine.hooks.ib_statistics_hook import head_classes
from mmltm.merging import LTM
from mmltm.models.builder import build_model

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def test_names_are_unique_and_folders_flat():
    """Results name a config by its stem; the tests beside this one find all that lie no deeper than one folder."""
    assert len({path.stem for path in CONFIGS}) == len(CONFIGS) > 80
    assert all(len(path.parts) <= 3 for path in CONFIGS)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_header_gives_the_command(path):
    title, _, rest = (ROOT / path).read_text().split('"""')[1].partition('\n')
    assert title.endswith('.')
    assert f'python tools/train.py {path} ' in rest.replace('\n', ' ') or f'bash tools/dist_train.sh {path} 8' in rest


@pytest.mark.parametrize('path', [path for path in CONFIGS if '_ltm_' in f'_{path.stem}'], ids=lambda path: path.stem)
def test_masks_step_by_statistics_of_the_heads_classes(path):
    """The paper's method: every window its own step, with a learnt gain, by statistics that a hook keeps."""
    if path.stem.startswith(('upernet', 'deeplabv3', 'effvit_seg')):
        pytest.importorskip('mmseg')
    cfg = load_config(str(ROOT / path))
    assert sum(hook.type == 'mmltm.IBStatisticsHook' for hook in cfg.custom_hooks) == 1
    backbone = cfg.model.backbone.get('module', cfg.model.backbone)
    backbone.init_cfg = backbone.pretrained = None
    if 'Swin' in backbone.type:  # one block a stage is quick
        backbone.arch = dict(embed_dims=96, depths=[1] * 4, num_heads=[4, 8, 16, 32],
                             **{'extra_norm_every_n_blocks': 0} if 'V2' in backbone.type else {})
    # The paper's exact statistics take gigabytes in ViT-B.
    exact = backbone.get('preset') == 'paper' and 'Swin' not in backbone.type
    with torch.device('meta' if exact else 'cpu'):
        model = build_model(cfg.model, cfg.default_scope)
    layers = [module for module in model.modules() if isinstance(module, LTM) and module.stats is not None]
    assert layers and {layer.stats.num_classes for layer in layers} == {head_classes(model)}
    assert all(layer.mode == 'instance' and layer.eta > 0 and layer.step_gain.requires_grad for layer in layers)
