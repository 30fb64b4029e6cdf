"""configs/paper: the paper's models, which differ from those they build on by the mask module alone."""

import copy
import json
from pathlib import Path

import pytest

from mmltm.apis.config import load_config
from mmltm.merging.trace import mergers_of
from mmltm.models.builder import build_model

ROOT = Path(__file__).resolve().parents[2]
PATHS = {path.stem: path for path in (ROOT / 'configs/paper').glob('*.py')}
ENTRIES = json.loads((ROOT / 'results/paper.json').read_text())['entries']
# Their masks of 56 x 56 tokens take seconds to make.
LARGE = [name for name in PATHS if 'swin' in name]


def entries(cfg):
    return [entry for entry in ENTRIES if (entry['model'], entry['pixels']) == (cfg.paper.model, cfg.paper.shape[0])]


@pytest.mark.parametrize('name', PATHS)
def test_the_preset_is_all_that_differs(name):
    cfg = load_config(str(PATHS[name]))
    base = load_config(str(PATHS[name].parent / PATHS[name].read_text().split("_base_ = '")[1].split("'")[0]))
    backbone = copy.deepcopy(cfg.model.backbone)
    assert backbone.pop('preset') == 'paper' and cfg.custom_hooks == base.custom_hooks
    size = backbone.merger.pop('img_size', 224)
    assert backbone == base.model.backbone and size == (cfg.paper.shape[0] if 'mask_rcnn' not in name else 224)
    assert entries(cfg) or 'mask_rcnn' in name


@pytest.mark.parametrize('name', [name for name in PATHS if name not in LARGE])
def test_masks_and_parameters_are_the_papers(name):
    cfg = load_config(str(PATHS[name]))
    cfg.model.backbone.merger.num_classes = 2  # parameters do not depend on it
    cfg.model.backbone.init_cfg = None
    model = build_model(cfg.model, cfg.default_scope)
    mergers = list(mergers_of(model).values())
    for merger in mergers[1:]:
        assert merger.whole and merger.mode == 'instance' and merger.step_norm == 'none' and merger.step_gain == 1
        assert merger.stats.beta == 1 and not merger.stats.normalize and merger.stats.projection is None
        assert merger.step_weight.shape == (merger.embed_dims // merger.groups, ) * 2
    for entry in entries(cfg):
        if 'parameters_m' in entry:
            own = sum(p.numel() for p in model.parameters()) / 1e6
            assert own == pytest.approx(entry['parameters_m'], rel=0.03)
