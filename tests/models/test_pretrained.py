"""One value starts a backbone from a classifier of any known project, with masks and statistics if it has any."""

import pytest
import timm
import torch
from mmengine.config import Config

import mmltm
from mmltm.apis.checkpoint_checks import check_checkpoint_files, check_trained
from mmltm.errors import UserError
from mmltm.models.builder import build_model
from mmltm.models.pretrained import statistics_classes
from tests.engine.small_detectors import Scenes, detector
from tests.engine.small_runs import classifier, runner
from tests.models.test_convert import MIT, TIMM, renamed

LAYER = 'stages.2.mergers.1'
WATCH = dict(type='mmltm.IBStatisticsHook')


def timm_weights(name, randomize):
    torch.manual_seed(0)
    return randomize(timm.create_model(TIMM[name], pretrained=False, num_classes=11)).state_dict()


BACKBONES = [
    ('mmltm.LTMEfficientViT', 'efficientvit_b0', (1, 2, 3, 4)), ('mmltm.EfficientViT', 'efficientvit_b0', (3, 4)),
    ('mmltm.LTMMobileViT', 'mobilevit_xxs', (1, 4)), ('mmltm.LTMVisionTransformer', 'vit_t', (11, ))]


@pytest.mark.parametrize('kind, name, outputs, source', [
    (*backbone, source) for backbone in BACKBONES for source in ('timm', 'timm.safetensors', 'mmpretrain', 'mit')
    if source != 'mit' or 'efficientvit' in backbone[1]])   # the authors' own weights exist for EfficientViT alone
def test_every_source(kind, name, outputs, source, tmp_path, randomize):
    """The same weights whatever the names; what the classifier has beside them is left behind."""
    state, path = timm_weights(name, randomize), str(tmp_path / 'weights.pth')
    expected = mmltm.models.convert.convert(state, name).state
    if source == 'mmpretrain':
        state = expected
    elif source == 'mit':
        state = renamed(state, MIT)
    if source.endswith('safetensors'):
        from safetensors.torch import save_file
        path = str(tmp_path / 'weights.safetensors')
        save_file(state, path)
    else:
        torch.save(dict(state_dict=state), path)
    arch = dict(efficientvit_b0='b0', mobilevit_xxs='xx_small', vit_t='deit-tiny')[name]
    merging = {} if 'LTM' not in kind else dict(ratio=0.7, merger=dict(type='LTM', num_classes=3))
    backbone = build_model(dict(type=kind, arch=arch, out_indices=outputs, pretrained=path, **merging))
    backbone.init_weights()
    own = {key: value for key, value in backbone.state_dict().items() if '.mergers.' not in f'.{key}'}
    assert own and [key for key, value in own.items() if not value.equal(expected[f'backbone.{key}'])] == []
    assert all(mask.stats.num_classes == 3 for mask in backbone.modules() if getattr(mask, 'stats', None))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Checkpoint of a classifier of five classes, with masks, steps and statistics."""
    work_dir = tmp_path_factory.mktemp('classifier')
    runner(work_dir, epochs=1, hooks=[WATCH], model=classifier(
        merger=dict(ratio=0.7, num_classes=5), head=dict(num_classes=5))).train()
    return str(work_dir / 'epoch_1.pth')


def test_classes_of_its_statistics_are_read_and_kept(trained, tmp_path, root):
    """A detector of three classes takes masks and statistics of a classifier of five, and leaves them as they are."""
    assert statistics_classes(trained) == 5 and statistics_classes('https://somewhere/else.pth') is None
    model = detector('mask_rcnn', root, pretrained=trained)
    assert model.backbone.merger.num_classes == 3
    run = runner(tmp_path, model=model, hooks=[WATCH], batch_size=2, data=Scenes(masks=True), epochs=1,
                 default_scope='mmdet', collate='pseudo_collate')
    check_trained(run, Config(dict(work_dir=str(tmp_path))))
    run.train()
    before = torch.load(trained, weights_only=False)['state_dict']
    after = {f'backbone.{key}': value for key, value in run.model.backbone.state_dict().items()}
    kept = [key for key in after if '.mergers.' in key]
    assert f'backbone.{LAYER}.stats.centroids' in kept and before[f'backbone.{LAYER}.stats.label_q'].std() > 0
    assert [key for key in kept if not after[key].equal(before[key])] == []
    assert run.model.backbone.norm_eval and not after['backbone.stages.0.downsample.point_conv.conv.weight'].equal(
        before['backbone.stages.0.downsample.point_conv.conv.weight'])
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert f'Checkpoint {trained} fills ' in log and 'masks of 4 of 4 layers and class statistics of 3 of 3' in log
    assert 'masks and their statistics of 5 classes stay as loaded' in log and 'random weights' not in log


def test_random_weights_are_said_to_be(tmp_path, root):
    run = runner(tmp_path, model=detector('mask_rcnn', root), hooks=[WATCH], default_scope='mmdet')
    check_trained(run, Config(dict(work_dir=str(tmp_path))))
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert log.count('The backbone starts from random weights: model.backbone.pretrained=PATH') == 1


def test_what_does_not_fit(trained, tmp_path, randomize):
    missing = Config(dict(model=dict(backbone=dict(pretrained='gone.pth')), work_dir='nowhere'))
    with pytest.raises(UserError, match='model.backbone.pretrained gone.pth does not exist'):
        check_checkpoint_files(missing)
    with pytest.raises(UserError, match='checkpoint gone.pth does not exist'):
        build_model(dict(type='mmltm.LTMEfficientViT', ratio=0.7, pretrained='gone.pth'))
    for other in (dict(type='mmltm.LTMEfficientViT', arch='b1', ratio=0.7),
                  dict(type='mmltm.LTMMobileViT', arch='xx_small'),
                  dict(type='mmltm.LTMEfficientViT', arch='b0', ratio=0.5)):  # masks of another ratio
        with pytest.raises(UserError, match=f'checkpoint {trained}.* fit'):
            build_model(dict(other, pretrained=trained)).init_weights()
