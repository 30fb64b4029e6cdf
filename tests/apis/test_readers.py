"""What mmdet and mmpretrain read once their readers are mended: as from complete data."""

import copy
import json

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from mmltm.apis.coco_repair import area_of
from mmltm.apis.readers import class_folders, mend_readers
from tests.apis.test_faulty_inputs import coco


def scores(content, path):
    """What a perfect detector gets."""
    from mmdet.datasets.api_wrappers import COCO
    path.write_text(json.dumps(content))
    truth = COCO(str(path))
    results = [dict(image_id=a['image_id'], category_id=a['category_id'], score=0.9, segmentation=mask)
               for a in truth.dataset['annotations'] for mask in [truth.annToRLE(a)]]
    evaluation = COCOeval(truth, truth.loadRes(results), 'segm')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def without(*keys):
    def change(content):
        for annotation in content['annotations']:
            for key in keys:
                del annotation[key]
    return change


@pytest.mark.parametrize('change', [
    without('iscrowd'), without('area'), without('iscrowd', 'area'),
    lambda content: content['annotations'][0].update(id=0),
    lambda content: content['annotations'][0]['segmentation'].insert(0, [2, 3, 12, 13])],
    ids=['no iscrowd', 'no area', 'neither', 'id 0', 'two points first'])
def test_scored_as_complete_files(change, tmp_path):
    mend_readers('mmdet')
    mend_readers('mmdet')  # once more does nothing
    content = coco()
    sound = scores(copy.deepcopy(content), tmp_path / 'sound.json')
    change(content)
    assert sound[0] == 1 and np.array_equal(scores(content, tmp_path / 'faulty.json'), sound)


def test_areas():
    square = [0, 0, 4, 0, 4, 4, 0, 4]
    assert area_of(dict(segmentation=[square, [10, 0, 12, 0, 12, 2, 10, 2]])) == 20
    assert area_of(dict(segmentation=dict(size=[4, 4], counts=[1, 3, 4, 2, 6]))) == 5
    assert area_of(dict(bbox=[0, 0, 3, 5])) == 15
    assert area_of(dict(bbox=None)) == area_of(dict(segmentation=[['a'] * 6])) == 0


def test_mmpretrain_takes_no_hidden_folder_for_a_class(tmp_path):
    from mmpretrain.datasets import CustomDataset
    mend_readers('mmpretrain')
    for name in ('.ipynb_checkpoints', 'cat', 'dog'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'a.jpg').touch()
    dataset = CustomDataset(data_prefix=str(tmp_path))
    assert list(dataset.CLASSES) == class_folders(str(tmp_path)) == ['cat', 'dog']
    assert [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))] == [0, 1]
