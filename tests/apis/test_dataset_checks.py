"""What is wrong with the data is said before anything is built, in one line with path or numbers."""

import json

import pytest

from mmltm.apis.dataset_checks import check_datasets
from mmltm.errors import UserError

SPLITS = ('train', 'val')


def refused(message):
    return pytest.raises(UserError, match=message)


def rewrite(coco, split, **changes):
    path = coco / 'annotations' / f'instances_{split}2017.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def categories(*names):
    return [dict(id=i, name=name) for i, name in enumerate(names)]


def test_sound_configs(detection, classification):
    check_datasets(detection, SPLITS)
    check_datasets(classification, SPLITS)


def test_missing_folder(detection, tmp_path):
    detection.val_dataloader.dataset.data_root = str(tmp_path / 'gone')
    check_datasets(detection, ('train',))
    with pytest.raises(UserError) as error:
        check_datasets(detection, SPLITS)
    line = str(error.value)
    assert line.startswith(f'val_dataloader.dataset: dataset folder {tmp_path}/gone does not exist')
    root = tmp_path / 'gone'
    assert f'expected {root}/annotations/instances_val2017.json and {root}/val2017/<image>' in line
    assert '--data-root' in line
    assert 'python tools/dataset_converters/make_mini_coco.py generate data/mini_coco' in line


def test_missing_annotation_file(detection, coco):
    path = coco / 'annotations' / 'instances_train2017.json'
    path.unlink()
    with refused(f'^train_dataloader.dataset.dataset: annotation file {path} does not exist'):
        check_datasets(detection, SPLITS)


def test_missing_image_folder(detection, coco):
    (coco / 'val2017').rename(coco / 'other')
    with refused(f'image folder {coco}/val2017/ does not exist'):
        check_datasets(detection, SPLITS)


def test_missing_images(detection, coco):
    (coco / 'train2017' / '1.jpg').unlink()
    with refused(f'file does not exist: 1 of 3 images, first {coco}/train2017/1.jpg; check the image folder'):
        check_datasets(detection, SPLITS)


def test_empty_images_matter_in_evaluation_only(detection, coco):
    (coco / 'val2017' / '2.jpg').write_bytes(b'')
    check_datasets(detection, ('train',))  # there they are skipped
    with refused(f'file is empty: 1 of 3 images, first {coco}/val2017/2.jpg; replace'):
        check_datasets(detection, ('val',))


def test_broken_annotation_file(detection, coco):
    path = coco / 'annotations' / 'instances_train2017.json'
    path.write_text('{"images": [')
    with refused(f'cannot read annotation file {path}: JSONDecodeError'):
        check_datasets(detection, SPLITS)


def test_missing_file_of_an_evaluator(detection):
    detection.val_evaluator = [dict(type='Other'), dict(type='CocoMetric', ann_file='gone.json')]
    with refused('val_evaluator: annotation file gone.json does not exist'):
        check_datasets(detection, SPLITS)


def test_heads_of_another_number(detection):
    detection.model.roi_head.bbox_head[1].num_classes = 80
    detection.model.roi_head.mask_head.num_classes = 80
    with pytest.raises(UserError) as error:
        check_datasets(detection, SPLITS)
    line = str(error.value)
    assert 'model.roi_head.bbox_head.1.num_classes=80, model.roi_head.mask_head.num_classes=80' in line
    assert 'train_dataloader.dataset.dataset has 3 categories' in line
    assert line.endswith(
        '--cfg-options model.roi_head.bbox_head.1.num_classes=3 model.roi_head.mask_head.num_classes=3')


def test_heads_of_a_single_stage_detector(detection):
    detection.model = dict(bbox_head=dict(num_classes=4))
    with refused('the model has model.bbox_head.num_classes=4, but .* has 3 categories'):
        check_datasets(detection, SPLITS)


def test_default_categories_of_the_dataset_class(detection):
    del detection.train_dataloader.dataset.dataset['metainfo']
    with pytest.raises(UserError) as error:
        check_datasets(detection, SPLITS)
    line = str(error.value)
    assert 'categories person, bicycle, car, motorcycle, airplane, ... are not in the annotations' in line
    assert '3 in' in line and '80 in CocoDataset.METAINFO' in line


def test_a_type_that_is_no_name_is_left_to_the_builder(classification):
    classification.train_dataloader.dataset.type = ''
    check_datasets(classification, ('train', ))


def test_subset_of_the_files_categories(detection, coco):
    rewrite(coco, 'train', categories=categories('circle', 'blob', 'square', 'star'))
    check_datasets(detection, SPLITS)


def test_category_that_the_file_lacks(detection, coco):
    rewrite(coco, 'val', categories=categories('circle', 'square', 'Star'))
    with refused('^val_dataloader.dataset: categories star are not in the annotations'):
        check_datasets(detection, SPLITS)


def test_classes_without_a_comma(detection):
    detection.val_dataloader.dataset.metainfo.classes = 'circle'  # from classes=('circle')
    with refused("classes is the text 'circle', which names no file; expected a list"):
        check_datasets(detection, SPLITS)


def test_classes_from_a_file(detection, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('circle\nsquare\nstar\n')
    detection.val_dataloader.dataset.metainfo.classes = str(names)
    check_datasets(detection, SPLITS)


@pytest.mark.parametrize('change', [dict(type='CIFAR10'), dict(backend_args=dict(backend='petrel')),
                                    dict(data_root='s3://bucket/coco')])
def test_out_of_sight_is_not_checked(detection, change):
    detection.val_dataloader.dataset.update(dict(data_root='gone'), **change)
    detection.val_evaluator.backend_args = dict(backend='petrel')
    check_datasets(detection, SPLITS)


def test_default_classes_against_folders(classification):
    del classification.val_dataloader.dataset['metainfo']
    with refused('2 in folder .*val .*but 1000 in ImageNet.METAINFO'):
        check_datasets(classification, SPLITS)


def test_head_of_a_classifier(classification):
    classification.model.head.num_classes = 1000
    with refused('has model.head.num_classes=1000, but train_dataloader.dataset has 2'):
        check_datasets(classification, SPLITS)


def test_targets_of_mixup(classification):
    classification.data_preprocessor.num_classes = 1000
    check_datasets(classification, SPLITS)
    classification.model.train_cfg.augments = dict(type='Mixup', alpha=0.8)
    with refused('has data_preprocessor.num_classes=1000, but'):
        check_datasets(classification, SPLITS)


def test_layout_of_class_folders(classification, tmp_path):
    (tmp_path / 'imagenet' / 'train').rename(tmp_path / 'imagenet' / 'training')
    with refused(f'expected {tmp_path}/imagenet/train/<class>/<image>; say where'):
        check_datasets(classification, SPLITS)


def test_list_of_images_beside_folders(classification, tmp_path):
    """ImageNet takes meta/train.txt where it exists; the folders are then not the classes."""
    (tmp_path / 'imagenet' / 'val' / 'n02').rename(tmp_path / 'imagenet' / 'val' / 'n03')
    (tmp_path / 'imagenet' / 'meta').mkdir()
    (tmp_path / 'imagenet' / 'meta' / 'train.txt').write_text('n01/a.jpg 0\n')
    check_datasets(classification, SPLITS)
