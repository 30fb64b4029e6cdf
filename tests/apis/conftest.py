"""Small data folders whose images are empty files, and configs to read them."""

import json

import pytest
from mmengine.config import Config

CATEGORIES = ('circle', 'square', 'star')


def write_coco(folder, categories=CATEGORIES, images=3):
    """Writes a folder in COCO's layout; the images of the training set have no content."""
    (folder / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (folder / split).mkdir()
        names = [f'{i}.jpg' for i in range(images)]
        for name in names:
            (folder / split / name).write_bytes(b'' if split.startswith('train') else b'content')
        content = dict(
            images=[dict(id=i, file_name=name, width=9, height=8) for i, name in enumerate(names)],
            categories=[dict(id=i + 1, name=name) for i, name in enumerate(categories)],
            annotations=[dict(id=1, image_id=0, category_id=1, iscrowd=0, area=16., bbox=[1, 1, 4, 4])])
        (folder / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path):
    """A folder in COCO's layout with three categories."""
    write_coco(tmp_path / 'coco')
    return tmp_path / 'coco'


@pytest.fixture
def detection(coco):
    """A config like mmdet's, whose data are in ``coco``."""

    def dataset(split, **kwargs):
        return dict(
            type='CocoDataset', data_root=str(coco), ann_file=f'annotations/instances_{split}2017.json',
            data_prefix=dict(img=f'{split}2017/'), metainfo=dict(classes=CATEGORIES), **kwargs)

    return Config(dict(
        default_scope='mmdet',
        model=dict(
            backbone=dict(type='ResNet', num_classes=7),
            rpn_head=dict(num_classes=1),
            roi_head=dict(
                bbox_head=[dict(num_classes=3), dict(num_classes=3)], mask_head=dict(num_classes=3))),
        train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset('train'))),
        val_dataloader=dict(dataset=dataset('val', test_mode=True)),
        val_evaluator=dict(type='CocoMetric', ann_file=str(coco / 'annotations/instances_val2017.json')),
        optim_wrapper=dict(type='OptimWrapper')))


@pytest.fixture
def classification(tmp_path):
    """A config like mmpretrain's, with two folders of classes."""
    root = tmp_path / 'imagenet'
    for split in ('train', 'val'):
        for name in ('n01', 'n02'):
            (root / split / name).mkdir(parents=True)
            (root / split / name / 'a.jpg').touch()
    return Config(dict(
        default_scope='mmpretrain',
        data_preprocessor=dict(num_classes=2),
        model=dict(backbone=dict(type='ResNet'), head=dict(num_classes=2), train_cfg=dict(augments=[])),
        **{f'{split}_dataloader': dict(dataset=dict(
            type='ImageNet', data_root=str(root), split=split, metainfo=dict(classes=['a', 'b'])))
            for split in ('train', 'val')}))
