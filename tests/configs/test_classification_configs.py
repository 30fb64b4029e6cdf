"""Configs of classifiers: each loads and builds, sees colours as its weights do, and follows its recipe."""

import re
from functools import lru_cache
from pathlib import Path

import cv2
import mmengine.config.utils
import mmpretrain
import numpy as np
import pytest
import torch
import yaml
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

from mmltm.apis.config import load_config
from mmltm.apis.preflight import check_config
from mmltm.apis.runner import build_loop

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Detectors stand at the top and in mini/; a folder for each data set of classification.
PATHS = {path.stem: path for path in sorted(CONFIGS.glob('*/*.py'))
         if path.parent.name not in ('_base_', 'dist', 'mini', 'paper')}
NAMES = list(PATHS)
IN1K = [name for name in NAMES if name.endswith('_300e_in1k') and not name.startswith('ltm_')]
IMAGENETTE = [name for name in NAMES if name.endswith('_imagenette128') and not name.startswith('ltm_')]

#: Mean, standard deviation and order of colours that published weights were trained with.
COLOURS = dict(
    mobilevit=([0, 0, 0], [255, 255, 255], 'bgr'),
    efficientvit=([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], 'rgb'),
    vit=([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], 'rgb'),
    swin=([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], 'rgb'),
    swinv2=([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], 'rgb'),
    dinov2=([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], 'rgb'),
    augreg=([127.5, 127.5, 127.5], [127.5, 127.5, 127.5], 'rgb'))


@pytest.fixture(scope='module', autouse=True)
def quick_loading():
    """mmengine reads all of mmpretrain's metafiles for every base that a config takes from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmengine.config.utils, 'load', lru_cache(None)(mmengine.config.utils.load))
        yield


@pytest.fixture(scope='module', autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@lru_cache(None)
def load(name):
    return load_config(str(PATHS[name]))


def flat(value, key=''):
    """Settings of a config by their dotted keys; a list counts as one."""
    if not isinstance(value, dict):
        return {key: value}
    return {inner: setting for name, item in value.items()
            for inner, setting in flat(item, f'{key}.{name}' if key else name).items()}


def differences(one, other):
    one, other = flat(load(one).to_dict()), flat(load(other).to_dict())
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)} - {'work_dir'}


def backbone(cfg):
    return cfg.model.backbone.get('module', cfg.model.backbone)


def family(name):
    if load(name).get('load_from') and 'in21k' in load(name).load_from:
        return 'augreg'
    return name.replace('ltm_', '').split('_')[0]


#: Of the learnt step, where masks alone learn.
LEARNING_RATES = [f'optim_wrapper.paramwise_cfg.custom_keys..step_{key}' for key in (
    'gain.lr_mult', 'gain.decay_mult', 'weight.lr_mult', 'weight.decay_mult')]


def test_all_are_here():
    assert len(IN1K) == 14 and len(IMAGENETTE) == 4
    for name in IN1K:
        assert {f'ltm_{name}', f'ltm_{name}'.replace('300e', 'finetune')} <= set(NAMES)
    for name in IMAGENETTE:
        assert {f'ltm_{name}', f'ltm_{name}'.replace('_imagenette', '_finetune_imagenette')} <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_config(name):
    cfg = load(name)
    # As many classes in data, head and statistics.
    classes = cfg.model.head.num_classes
    assert classes == (1000 if cfg.train_dataloader.dataset.type == 'ImageNet' else 10)
    assert cfg.data_preprocessor.num_classes in (classes, None)
    merging = name.startswith('ltm_')
    assert ('mmltm.LTM' in backbone(cfg).type) == merging == ('merger' in backbone(cfg))
    if merging:
        start = dict(prior='partition') if 'ltm_vit' in name and 'finetune' in name else {}
        # The small ViT has 8 x 8 tokens, where others have multiples of 7 x 7.
        window = dict(window=8) if 'vit_c' in name else {}
        assert backbone(cfg).merger == dict(type='LTM', ratio=0.7, num_classes=classes, **start, **window)
        assert 'mmltm.IBStatisticsHook' in [hook.type for hook in cfg.custom_hooks]
    # From scratch MobileViT has the paper's form, for the paper's FLOPs; trained weights need maps of their size.
    # The small ViT gives the mean of its tokens, and needs no map at all.
    flows_on = merging and (family(name) == 'mobilevit' and 'finetune' not in name or 'vit_c' in name)
    flows_on = 'stage' if '_stage_' in name else 'none' if flows_on else None
    assert backbone(cfg).get('restore') == flows_on
    gpus = 8 if cfg.train_dataloader.dataset.type == 'ImageNet' else 1
    assert cfg.auto_scale_lr.base_batch_size == gpus * cfg.train_dataloader.batch_size


@pytest.mark.parametrize('name', NAMES)
def test_preprocessor_agrees_with_weights(name):
    """One pixel of known colour, through the pipeline's end and the preprocessor."""
    mean, std, order = COLOURS[family(name)]
    settings = {**load(name).data_preprocessor, 'type': 'mmpretrain.ClsDataPreprocessor', 'batch_augments': None}
    bgr = torch.tensor([10., 100., 200.])
    seen = MODELS.build(settings)(dict(inputs=bgr.expand(1, 1, 1, 3).permute(0, 3, 1, 2)))['inputs'].flatten()
    expected = (bgr if order == 'bgr' else bgr.flip(0)).sub(torch.tensor(mean)).div(torch.tensor(std))
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize('name', IN1K + IMAGENETTE)
def test_masks_from_scratch_differ_in_backbone_and_hook_alone(name):
    assert differences(name, f'ltm_{name}') <= {
        'model.backbone.type', 'model.backbone.restore', 'model.backbone.merger.type', 'model.backbone.merger.ratio',
        'model.backbone.merger.num_classes', 'custom_hooks'}
    cfg = load(f'ltm_{name}')
    hook, = cfg.custom_hooks
    assert (hook.t_warm, cfg.train_cfg.max_epochs) == ((100, 300) if name in IN1K else (10, 30))


@pytest.mark.parametrize('name', IN1K + IMAGENETTE)
def test_masks_alone_differ_in_schedule_besides(name):
    tuned = 'ltm_' + re.sub('(300e|imagenette)', lambda m: {'300e': 'finetune'}.get(m[0], f'finetune_{m[0]}'), name)
    twin = f'ltm_{name}'
    assert differences(twin, tuned) <= {
        'custom_hooks', 'train_cfg.max_epochs', 'param_scheduler', 'load_from', 'optim_wrapper.optimizer.lr',
        'optim_wrapper.optimizer.weight_decay', 'model.backbone.restore', *LEARNING_RATES,
        *(['model.backbone.merger.prior'] if name.startswith('vit') else [])}
    assert [hook.type for hook in load(tuned).custom_hooks] == [
        'mmltm.MaskTuningHook', 'mmltm.IBStatisticsHook', 'mmltm.StartEvaluationHook']
    assert load(tuned).load_from


@pytest.mark.parametrize('name', IN1K)
def test_recipe(name):
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(type='AdamW', lr=2e-3, betas=(0.9, 0.999), weight_decay=0.01)
    assert {'RandAugment', 'RandomErasing', 'RandomResizedCrop', 'RandomFlip'} <= {
        step.type for step in cfg.train_dataloader.dataset.pipeline}
    assert [augment.type for augment in cfg.data_preprocessor.batch_augments.augments] == ['Mixup', 'CutMix']
    assert cfg.model.head.loss.type == 'LabelSmoothLoss'
    assert cfg.model.get('train_cfg') is None
    size = 288 if 'r288' in name else 224
    assert cfg.train_dataloader.dataset.pipeline[1].scale == size
    for split in ('val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.pipeline[2] == dict(type='CenterCrop', crop_size=size)


@pytest.mark.parametrize('name', [name for name in NAMES if re.search('finetune_in1k|custom', name)])
def test_published_weights_are_of_the_model(name):
    """mmpretrain's list knows the file, and as a model of this size; EfficientViT's come from elsewhere."""
    cfg = load(name)
    weights = cfg.get('load_from') or backbone(cfg).init_cfg.checkpoint
    if family(name) == 'efficientvit':
        assert weights == f"checkpoints/{name.replace('ltm_', '').replace('_finetune_in1k', '')}.pth"
        return
    sizes = dict(xxs='xxsmall', xs='xsmall', t='tiny', s='small', b='base', l='large')
    size = sizes[name.replace('ltm_', '').split('_')[1]]
    folders = dict(mobilevit='mobilevit', swin='swin_transformer', swinv2='swin_transformer_v2', vit='deit',
                   augreg='vision_transformer', dinov2='dinov2')
    listed = Path(mmpretrain.__file__).parent / '.mim/configs' / folders[family(name)] / 'metafile.yml'
    models = yaml.safe_load(listed.read_text())['Models']
    model, = (model for model in models if weights.endswith('/' + model['Weights'].split('/')[-1]))
    assert f'-{size}' in model['Name'] and 'distilled' not in model['Name']


def test_transfer_twins():
    assert differences('vit_s_transfer_custom', 'ltm_vit_s_transfer_custom') == {
        'model.backbone.type', 'model.backbone.merger.type', 'model.backbone.merger.ratio',
        'model.backbone.merger.num_classes', 'custom_hooks'}


class Point(BaseModel):
    """The smallest model that learns."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, **kwargs):
        return dict(loss=self.weight.square())


def learning_rates(cfg, tmp_path, steps=4):
    """The learning rate of every step of a training in which an epoch has a few steps only."""
    loader = torch.utils.data.DataLoader([{}] * steps, collate_fn=lambda batch: {})
    runner = Runner(
        Point(), str(tmp_path), loader, train_cfg=cfg.train_cfg, optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler, default_scope='mmpretrain', experiment_name=tmp_path.name)
    build_loop(runner, 'train')
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    rates = []
    for _ in range(cfg.train_cfg.max_epochs * steps):
        rates += runner.optim_wrapper.get_lr()['lr']
        runner.optim_wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    return np.array(rates).reshape(-1, steps)


def test_learning_rate_from_scratch(tmp_path):
    rates = learning_rates(load('ltm_mobilevit_s_300e_in1k'), tmp_path)
    assert rates[0, 0] == pytest.approx(2e-4)
    assert rates[10, 0] == rates.max() == pytest.approx(2e-3)
    warmup = np.diff(rates[:10].ravel())
    assert warmup.min() == pytest.approx(warmup.max()) and warmup.min() > 0
    assert (np.diff(rates[11:].ravel()) < 0).all()
    assert rates[155, 0] == pytest.approx(1.1e-3, rel=0.01)
    assert rates[-1, -1] == pytest.approx(2e-4, rel=1e-3)


@pytest.mark.parametrize('name, epochs', [
    ('ltm_mobilevit_s_finetune_in1k', 1), ('ltm_mobilevit_s_finetune_in1k', 50),
    ('ltm_efficientvit_b0_finetune_imagenette128', 5), ('efficientvit_b0_imagenette128', 1),
    ('vit_s_transfer_custom', 20)])
def test_one_variable_changes_the_number_of_epochs(name, epochs, tmp_path):
    cfg = load_config(str(PATHS[name]), {'train_cfg.max_epochs': epochs})
    rates = learning_rates(cfg, tmp_path, steps=40).ravel()
    peak = rates.argmax()
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] < 0.01 * cfg.optim_wrapper.optimizer.lr
    if 'finetune' in name:
        assert peak == 0 and rates[0] == cfg.optim_wrapper.optimizer.lr


def test_no_decay_pulls_masks():
    """Nor embeddings, norms and biases; and transfer lets masks go faster than weights."""
    cfg = load('ltm_vit_s_transfer_custom')
    model = dict(cfg.model, backbone={**cfg.model.backbone, 'init_cfg': None}, _scope_='mmpretrain')
    model = MODELS.build(model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {name: group for (name, _), group in zip(model.named_parameters(), wrapper.param_groups)}
    undecayed = {name for name, group in groups.items() if group['weight_decay'] == 0}
    assert undecayed == {name for name, value in model.named_parameters()
                         if value.ndim < 2 or re.search('cls_token|pos_embed|mergers', name)}
    masks = {name for name in groups if '.mergers.' in name}
    assert masks and all(group['lr'] == (1e-3 if name in masks else 1e-4) for name, group in groups.items())


@pytest.mark.parametrize('name', [name for name in NAMES if 'finetune' in name])
def test_steps_learn_slower_than_masks(name):
    cfg = load(name)
    model = dict(cfg.model, _scope_='mmpretrain')
    if 'swin' in name:
        model['backbone'] = shallow(model['backbone'])
    with torch.device('cpu' if 'swin' in name else 'meta'):
        model = MODELS.build(model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = {key: group for (key, _), group in zip(model.named_parameters(), wrapper.param_groups) if 'mergers' in key}
    rates = {key.rsplit('.', 1)[-1]: pytest.approx(group['lr']) for key, group in groups.items()}
    assert rates == dict(logits=cfg.optim_wrapper.optimizer.lr, step_gain=0.01, step_weight=0.002)
    assert all(group['weight_decay'] == 0 for group in groups.values())


def shallow(backbone):
    """A Swin with one block a stage, which is quick: it asks for the value of a tensor when it is built."""
    arch = dict(embed_dims=dict(tiny=96, small=96, base=128, large=192)[backbone['arch']], depths=[1] * 4,
                num_heads=[4, 8, 16, 32])
    return dict(backbone, arch=arch | ({'extra_norm_every_n_blocks': 0} if 'V2' in backbone['type'] else {}))


def _distinct_models():
    """Names of configs, one for each model; transfer is tested apart, since it reads weights."""
    twins = {name: re.sub('finetune_in1k', '300e_in1k', name).replace('_finetune', '') for name in NAMES}
    return [name for name, twin in twins.items()
            if not name.endswith('_custom') and (name == twin or twin not in NAMES)]


@pytest.mark.parametrize('name', _distinct_models())
def test_model_runs(name):
    """The layers fit each other at the size of the images, and the head the backbone."""
    cfg = load(name)
    model, size = cfg.model.to_dict(), cfg.val_dataloader.dataset.pipeline[-2].crop_size
    device = 'meta'
    if 'swin' in name:
        device, model['backbone'] = 'cpu', shallow(model['backbone'])
    with torch.device(device), torch.no_grad():
        logits = MODELS.build(model).eval()(torch.zeros(1, 3, size, size))
    assert logits.shape == (1, cfg.model.head.num_classes)


def test_imagenet_as_plain_folders(tmp_path):
    """A thousand folders, no annotation file: classes are numbered by name; what is amiss is said beforehand."""
    image = cv2.imencode('.jpg', np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for split in ('train', 'val'):
        for index in range(1000):
            folder = tmp_path / split / f'n{index:08}'
            folder.mkdir(parents=True)
            (folder / 'a.JPEG').write_bytes(image)
    cfg = load_config(str(PATHS['ltm_mobilevit_s_300e_in1k']), data_root=str(tmp_path))
    check_config(cfg, ('train', 'val'))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 1000
    assert dataset.get_data_info(7)['gt_label'] == 7
    assert dataset.get_data_info(7)['img_path'].endswith('train/n00000007/a.JPEG')
    assert dataset[7]['inputs'].shape == (3, 224, 224)


def test_mixed_targets():
    """Batch augmentation of the recipe gives distributions over all classes, and the loss takes them."""
    cfg = load('mobilevit_xxs_300e_in1k')
    preprocessor = MODELS.build({**cfg.data_preprocessor, 'type': 'mmpretrain.ClsDataPreprocessor'})
    batch = dict(inputs=torch.zeros(2, 3, 32, 32), data_samples=[DataSample().set_gt_label(i) for i in (3, 5)])
    samples = preprocessor(batch, training=True)['data_samples']
    scores = torch.stack([sample.gt_score for sample in samples])
    assert scores.shape == (2, 1000)
    torch.testing.assert_close(scores.sum(1), torch.ones(2))
    head = MODELS.build(cfg.model.head)
    assert head.loss((torch.zeros(2, 320), ), samples)['loss'].isfinite()
