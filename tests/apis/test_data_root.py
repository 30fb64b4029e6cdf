"""--data-root reaches every dataset and evaluator, whatever wraps them."""

import pytest
from mmengine.config import Config

from mmltm.apis.config import load_config
from mmltm.apis.data_root import SPLITS, data_roots, leaf_datasets, relocate
from mmltm.errors import UserError


def coco(split, root='data/coco/', **kwargs):
    return dict(type='CocoDataset', data_root=root, ann_file=f'annotations/{split}.json',
                data_prefix=dict(img=f'{split}/'), **kwargs)


def strings(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize('name, data', [
    ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', 'instances_val2017.json'),
    ('mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py', 'lvis_v1_val.json'),  # ClassBalancedDataset
    ('mmdet::yolox/yolox_s_8xb8-300e_coco.py', 'instances_val2017.json'),  # MultiImageMixDataset
    ('mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py', 'test.txt'),  # RepeatDataset of a ConcatDataset
    ('mmpretrain::resnet/resnet18_8xb32_in1k.py', None),
])
def test_upstream_configs(name, data, tmp_path):
    root = str(tmp_path / 'elsewhere')
    cfg = load_config(name, data_root=root)
    datasets = [dataset for _, dataset in leaf_datasets(cfg)]
    assert len(datasets) >= 3
    assert all(dataset.data_root == root for dataset in datasets)
    parts = [cfg.get(f'{split}_{part}') for split in SPLITS for part in ('dataloader', 'evaluator')]
    assert not [text for text in strings(parts) if text.startswith('data/')]
    if data:
        assert any(text.endswith(data) for text in strings(parts))


def test_nested_wrappers_and_evaluators():
    cfg = Config(dict(
        data_root='data/coco/',
        train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(
            type='ConcatDataset',
            datasets=[coco('a'), dict(type='ClassBalancedDataset', dataset=coco('b'))]))),
        val_dataloader=dict(dataset=coco('c')),
        test_dataloader=None,
        val_evaluator=[dict(type='CocoMetric', ann_file='data/coco/annotations/c.json'), dict(type='Other')],
        test_evaluator=None))
    relocate(cfg, '/new', data_roots(cfg))
    assert [key for key, _ in leaf_datasets(cfg)] == [
        'train_dataloader.dataset.dataset.datasets[0]',
        'train_dataloader.dataset.dataset.datasets[1].dataset',
        'val_dataloader.dataset']
    assert {dataset.data_root for _, dataset in leaf_datasets(cfg)} == {'/new'}
    assert cfg.train_dataloader.dataset.dataset.datasets[0].ann_file == 'annotations/a.json'
    assert cfg.val_evaluator == [
        dict(type='CocoMetric', ann_file='/new/annotations/c.json'), dict(type='Other')]
    assert cfg.data_root == '/new'


@pytest.mark.parametrize('before, after', [
    ('data/coco/annotations/c.json', '/new/annotations/c.json'),
    ('./data/coco//annotations/c.json', '/new/annotations/c.json'),
    ('data/coco2/annotations/c.json', 'data/coco2/annotations/c.json'),  # a namesake, not below the root
    ('/other/c.json', '/other/c.json'),
    ('/abs/coco/c.json', '/new/c.json'),
    ('/abs/coco/inner/c.json', '/new/c.json'),
])
def test_paths_of_evaluators(before, after):
    cfg = Config(dict(val_evaluator=dict(ann_file=before)))
    relocate(cfg, '/new', {'data/coco/', '/abs/coco', '/abs/coco/inner'})
    assert cfg.val_evaluator.ann_file == after


def test_paths_of_datasets():
    dataset = coco('a', root='data')
    dataset.update(
        ann_file='data/a.json', data_prefix=dict(img='/abs/a'), metainfo=dict(classes='data/names.txt'))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    relocate(cfg, '/new', {'data', '/abs'})
    moved = cfg.train_dataloader.dataset
    assert moved.ann_file == 'data/a.json'  # below data_root: /new/data/a.json
    assert moved.data_prefix.img == '/new/a'
    assert moved.metainfo.classes == '/new/names.txt'  # relative to the current folder


def test_new_root_is_absolute_but_urls_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for new, expected in (('here', str(tmp_path / 'here')), ('s3://bucket/coco', 's3://bucket/coco')):
        cfg = Config(dict(
            train_dataloader=dict(dataset=coco('a')), test_evaluator=dict(ann_file='data/coco/a.json')))
        relocate(cfg, new, data_roots(cfg))
        assert cfg.train_dataloader.dataset.data_root == expected
        assert cfg.test_evaluator.ann_file == f'{expected}/a.json'


def test_applies_after_cfg_options(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text(
        "default_scope = 'mmdet'\n"
        f"train_dataloader = dict(dataset={coco('a')})\nval_dataloader = dict(dataset={coco('b')})\n"
        "val_evaluator = dict(ann_file='data/coco/annotations/b.json')\n")
    options = {'train_dataloader.dataset.data_root': 'mine', 'val_dataloader.dataset.data_root': 'mine',
               'train_dataloader.dataset.ann_file': 'annotations/few.json'}
    cfg = load_config(str(path), options, data_root='/new')
    assert cfg.train_dataloader.dataset.data_root == '/new'
    assert cfg.train_dataloader.dataset.ann_file == 'annotations/few.json'
    assert cfg.val_evaluator.ann_file == '/new/annotations/b.json'


def test_dataset_without_root():
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='X', ann_file='data/x.json'))))
    with pytest.raises(UserError, match='cannot move train_dataloader.dataset, which has no data_root'):
        relocate(cfg, '/new', set())
