"""Images that cannot be decoded are left out of training, named and counted."""

import json
import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from mmltm.datasets.loading import LoadImageOrSkip, guard_loading, skip_counter
from mmltm.engine.hooks import SkippedImagesHook
from mmltm.registry import HOOKS, TRANSFORMS


def make_dataset(folder, paths, **kwargs):
    ann_file = folder / 'list.json'
    ann_file.write_text(json.dumps(dict(metainfo={}, data_list=[dict(img_path=path) for path in paths])))
    return BaseDataset(str(ann_file), pipeline=[LoadImageOrSkip()], **kwargs)


@pytest.fixture
def files(tmp_path):
    """Four images, of which one is empty, one no image and one cut off."""
    cv2.imwrite(str(tmp_path / 'good.jpg'), np.zeros((64, 64, 3), np.uint8))
    content = (tmp_path / 'good.jpg').read_bytes()
    (tmp_path / 'empty.jpg').write_bytes(b'')
    (tmp_path / 'text.jpg').write_bytes(b'no image')
    (tmp_path / 'cut.jpg').write_bytes(content[:20])
    return {name: str(tmp_path / f'{name}.jpg') for name in ('good', 'empty', 'text', 'cut')}


@pytest.fixture
def warnings(monkeypatch):
    """Messages logged in this process."""
    messages = []
    monkeypatch.setattr(
        'mmltm.datasets.loading.print_log', lambda text, logger, level: messages.append((level, text)))
    return messages


@pytest.mark.parametrize('name', ['empty', 'text', 'cut', 'missing'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_unreadable_image_gives_none(files, warnings, name, backend, tmp_path):
    path = files.get(name, str(tmp_path / 'missing.jpg'))
    load = LoadImageOrSkip(imdecode_backend=backend)
    before = skip_counter().total()
    assert load(dict(img_path=path)) is None
    assert load(dict(img_path=path)) is None
    assert skip_counter().total() - before == 2
    assert [level for level, _ in warnings] == [logging.WARNING]  # each file is named once
    assert path in warnings[0][1]


def test_good_image_is_loaded_as_by_mmcv(files):
    options = dict(to_float32=True, color_type='grayscale', backend_args=dict(backend='local'))
    transform = TRANSFORMS.build(dict(type='mmltm.LoadImageOrSkip', **options))
    ours = transform(dict(img_path=files['good']))
    theirs = LoadImageFromFile(**options)(dict(img_path=files['good']))
    assert ours.keys() == theirs.keys()
    assert ours['img'].dtype == np.float32 and np.array_equal(ours['img'], theirs['img'])


@pytest.mark.parametrize('start, persistent', [(None, False), ('fork', True), ('spawn', True)])
def test_counts_over_workers_and_epochs(files, start, persistent, tmp_path):
    dataset = make_dataset(tmp_path, [files['good'], files['text']] * 4)
    loader = DataLoader(dataset, batch_size=2, num_workers=2 if start else 0, multiprocessing_context=start,
                        persistent_workers=persistent)
    for _ in range(2):
        before = skip_counter().total()
        samples = [path for batch in loader for path in batch['img_path']]
        assert samples == [files['good']] * 8
        assert skip_counter().total() - before >= 4  # a substitute may be corrupt, too


def test_only_corrupt_images_end_the_training(files, tmp_path):
    dataset = make_dataset(tmp_path, [files['text']] * 3, max_refetch=5)
    with pytest.raises(Exception, match='Cannot find valid image after 5'):
        dataset[0]


def test_hook_logs_the_count_of_an_epoch(caplog):
    runner = SimpleNamespace(epoch=4, logger=logging.getLogger('skipped images'))
    hook = HOOKS.build(dict(type='mmltm.SkippedImagesHook'))
    assert isinstance(hook, SkippedImagesHook)
    hook.before_train_epoch(runner)
    hook.after_train_epoch(runner)
    assert not caplog.records
    skip_counter().add()
    hook.before_train_epoch(runner)
    for _ in range(3):
        skip_counter().add()
    hook.after_train_epoch(runner)
    assert [record.getMessage() for record in caplog.records] == ['Corrupt images skipped in epoch 5: 3']


def test_is_put_into_every_pipeline():
    load = dict(type='LoadImageFromFile', to_float32=True)
    other = dict(type='Other')
    cfg = Config(dict(
        train_dataloader=dict(dataset=dict(
            type='MultiImageMixDataset', pipeline=[other],
            dataset=dict(type='ConcatDataset', datasets=[
                dict(pipeline=[load, other]),
                dict(pipeline=[dict(type='Branch', parts=[[dict(type='mmcv.LoadImageFromFile')], [other]])]),
            ]))),
        val_dataloader=dict(dataset=dict(pipeline=[load])),
        custom_hooks=[dict(type='PipelineSwitchHook', switch_pipeline=[load])]))
    guard_loading(cfg)
    ours = dict(type='mmltm.LoadImageOrSkip', to_float32=True)
    first, second = cfg.train_dataloader.dataset.dataset.datasets
    assert first.pipeline == [ours, other]
    assert second.pipeline[0].parts == [[dict(type='mmltm.LoadImageOrSkip')], [other]]
    assert cfg.val_dataloader.dataset.pipeline == [dict(type='mmltm.LoadImage', to_float32=True)]
    assert cfg.custom_hooks == [dict(type='PipelineSwitchHook', switch_pipeline=[ours]),
                                dict(type='mmltm.SkippedImagesHook')]
    assert 'LoadImageOrSkip' in cfg.pretty_text  # names, not classes: the config can be saved
