"""Transfer and LoRA configs: what they start from, what learns, and what a checkpoint holds, on a very small ViT."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmltm.apis.checkpoint_checks import check_trained
from mmltm.apis.config import load_config
from mmltm.apis.preflight import check_config
from mmltm.apis.runner import build_runner
from mmltm.merging import LTM

ARCH = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)
CUSTOM = sorted(path.stem for path in (Path(__file__).parents[2] / 'configs/custom').glob('*.py'))


@pytest.fixture(scope='module', autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two classes of four images a split."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)
    for folder in ('train/bright', 'train/dark', 'val/bright', 'val/dark'):
        (root / folder).mkdir(parents=True)
        for index in range(4):
            image = rng.integers(0, 100, (64, 64, 3)) + (15 if 'bright' in folder else 0)
            cv2.imwrite(str(root / folder / f'{index}.png'), image)
    return root


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """A vanilla classifier of a thousand classes in a file, all of its values random."""
    model = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='VisionTransformer', arch=ARCH, img_size=224, patch_size=16),
        head=dict(type='VisionTransformerClsHead', num_classes=1000, in_channels=24)))
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in model.state_dict().items()}
    path = tmp_path_factory.mktemp('weights') / 'vit.pth'
    torch.save(dict(state_dict=state), path)
    return path


def small(name, root, pretrained, data=None):
    """The config as it is, but for the size of the ViT, and two classes."""
    lora = 'lora' in name
    prefix = 'model.backbone.module' if lora else 'model.backbone'
    options = {
        'model.head.num_classes': 2, f'{prefix}.init_cfg.checkpoint': str(pretrained),
        'train_cfg.max_epochs': 3, 'train_dataloader.batch_size': 4,
        'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0}
    if name.startswith('ltm'):
        options[f'{prefix}.merger.num_classes'] = 2
    cfg = load_config(str(root / 'configs/custom' / f'{name}.py'), options, data_root=data and str(data))
    backbone = cfg.model.backbone.module if lora else cfg.model.backbone
    backbone.arch = ARCH
    if 'dinov2' in name:
        backbone.update(img_size=224, patch_size=16, layer_scale_init_value=0.,
                        frozen_stages=min(backbone.frozen_stages, 3))
    cfg.model.head.in_channels = 24
    cfg.model.data_preprocessor = cfg.data_preprocessor
    return cfg


def vit(model):
    return getattr(model.backbone, 'module', model.backbone)


@pytest.mark.parametrize('name', CUSTOM)
def test_starts_from_the_weights_without_their_head(name, root, pretrained):
    model = MODELS.build(small(name, root, pretrained).model)
    model.init_weights()
    state = torch.load(pretrained)['state_dict']
    own = {key.replace('.original_layer', ''): value for key, value in dict(vit(model).named_parameters()).items()
           if '.lora_' not in key and 'mergers' not in key}
    assert own.keys() == {key.removeprefix('backbone.') for key in state if key.startswith('backbone.')}
    for key, value in own.items():
        assert torch.equal(value, state[f'backbone.{key}']), key
    assert model.head.layers.head.weight.shape == (2, 24)


def test_all_learn_in_transfer(root, pretrained):
    model = MODELS.build(small('ltm_vit_s_transfer_custom', root, pretrained).model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert any(isinstance(module, LTM) for module in model.modules())


def test_low_rank_weights_masks_and_head_learn(root, data, pretrained, tmp_path):
    """Three epochs of masks with steps; then another model from the checkpoint."""
    cfg = small('ltm_vit_b_lora_custom', root, pretrained, data)
    cfg.work_dir = str(tmp_path)
    check_config(cfg, ('train', 'val'))
    runner = build_runner(cfg)
    check_trained(runner, cfg)
    model = runner.model
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    parts = {part: {name for name in names if part in name} for part in ('.lora_', '.mergers.', 'head.')}
    assert set.union(*parts.values()) == names
    assert len(parts['.lora_']) == 2 * 3 and len(parts['.mergers.']) == 4 and len(parts['head.']) == 2
    assert {name.rsplit('.', 1)[-1] for name in parts['.mergers.']} == {'logits', 'step_gain', 'step_weight'}

    model.init_weights()
    before = {name: value.clone() for name, value in model.named_parameters()}
    runner.train()
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == (name not in names), name
        # Weight decay alone would change a value, too.
        assert name not in names or runner.optim_wrapper.optimizer.state[value]['exp_avg'].any(), name
    second = [module for module in model.modules() if isinstance(module, LTM)][1]
    assert second.step_weight.any() and second.stats.counts.tolist() == [16, 16]  # windows

    saved = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)['state_dict']
    assert names < saved.keys()
    assert all('.lora_' in key or '.mergers.' in key or key.startswith('head.') for key in saved)
    other = MODELS.build(cfg.model)
    missing, unexpected = other.load_state_dict(saved, strict=False)
    assert not missing and not unexpected
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(other.eval()(image), model.eval()(image))


def test_checkpoint_without_masks_is_told(root, pretrained):
    """What mmpretrain's class passes over: masks that a checkpoint lacks."""
    model = MODELS.build(small('ltm_vit_b_lora_custom', root, pretrained).model)
    state = {key: value for key, value in model.state_dict().items() if '.mergers.' not in key}
    missing, _ = model.load_state_dict(state, strict=False)
    assert missing and all('.mergers.' in key for key in missing)
