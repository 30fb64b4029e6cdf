"""What each of many faulty data sets and options gets, a row each.

``python -m tests.apis.test_faulty_inputs`` writes docs/faulty_inputs.md: these rows, those of test_hostile_inputs.py,
and what tests elsewhere do to runs (:data:`RUNS`).
"""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.runner import Runner
from PIL import Image

from mmltm.apis.checkpoint_checks import check_classes
from mmltm.apis.coco_audit import audit, check_structure, read_json
from mmltm.apis.coco_checks import CHECKS
from mmltm.apis.coco_files import audit_files
from mmltm.apis.coco_repair import repair, sort_categories
from mmltm.apis.config import load_config
from mmltm.apis.dataset_checks import check_datasets
from mmltm.apis.preflight import check_loop
from mmltm.apis.runner import build_loop
from mmltm.apis.tta import set_tta
from mmltm.errors import UserError
from tests.conftest import ROOT

PAGE = ROOT / 'docs' / 'faulty_inputs.md'
WIDTH, HEIGHT = 30, 20
AUDIT = '''`tools/dataset_converters/check_coco.py` says what is wrong with an annotation file, and `--fix` repairs it;
training and testing look through theirs alike before they start. A file of the size of COCO's, made from a small one,
and the time that it takes:

```bash
python - <<'END'
import json
from itertools import cycle, islice
small = json.load(open('small.json'))
pairs = list(islice(cycle(small['images']), 120_000))
of = {image['id']: [a for a in small['annotations'] if a['image_id'] == image['id']] for image in small['images']}
images = [dict(image, id=number) for number, image in enumerate(pairs, 1)]
objects = [dict(a, image_id=number) for number, image in enumerate(pairs, 1) for a in of[image['id']]][:900_000]
objects = [dict(a, id=number) for number, a in enumerate(objects, 1)]
json.dump(dict(small, images=images, annotations=objects), open('large.json', 'w'))
END
time python tools/dataset_converters/check_coco.py large.json
```'''


class Row(NamedTuple):
    """One faulty input: its name, what is wrong, what it gets, how, and where it is fixed, what ``--fix`` does."""
    id: str
    broken: str
    gets: str
    check: Callable
    fix: str = ''


def coco():
    """Four images, two categories, eight objects of 10 x 10 pixels."""
    def square(i):
        x, y = 2 + i, 3
        return dict(id=i + 1, image_id=i // 2 + 1, category_id=i % 2 + 1, iscrowd=0, area=100, bbox=[x, y, 10, 10],
                    segmentation=[[x, y, x + 10, y, x + 10, y + 10, x, y + 10]])
    return dict(images=[dict(id=i, file_name=f'{i}.jpg', width=WIDTH, height=HEIGHT) for i in range(1, 5)],
                categories=[dict(id=1, name='cat'), dict(id=2, name='dog')], annotations=[square(i) for i in range(8)])


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """The images of ``coco``, and sideways.jpg, which its EXIF orientation turns to their size."""
    folder = tmp_path_factory.mktemp('images')
    for i in range(1, 5):
        Image.new('RGB', (WIDTH, HEIGHT)).save(folder / f'{i}.jpg')
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (WIDTH, HEIGHT)).save(folder / 'sideways.jpg', exif=exif)
    (folder / 'empty.jpg').touch()
    return folder


@pytest.fixture
def world(images, tmp_path, capsys):
    """What rows need of the outside: images, a folder of their own, and what has been printed."""
    return dict(images=str(images), folder=tmp_path, capsys=capsys)


def of(part, row, **changes):
    """A change of one item; None takes a key out."""
    def change(content):
        item = content[part][row]
        item.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del item[key]
    return change


def every(part, **changes):
    def change(content):
        for row in range(len(content[part])):
            of(part, row, **changes)(content)
    return change


def again(part, row):
    """An item once more, a copy."""
    return lambda content: content[part].append(json.loads(json.dumps(content[part][row])))


def in_file(id, broken, change, name, count=1, left=False, masks=None):
    """A fault that the audit finds ``count`` times under ``name``; repaired it is gone, unless ``left``."""
    def check(world):
        content = coco()
        change(content)
        content = json.loads(json.dumps(content))  # as a file would hold it
        findings = audit(content, masks) + audit_files(content, world['images'])
        found = {finding.name: finding for finding in findings}
        assert name in found and len(found[name].rows) == count
        assert CHECKS[name].fatal or not any(finding.check.fatal for finding in findings)
        if left:
            with pytest.raises(UserError, match='cannot repair the rest'):
                list(repair(content, masks, world['images']))
        elif CHECKS[name].fix:
            assert name in [finding.name for finding in repair(content, masks, world['images'])]
            check_structure('', content)
            again = audit(content) + audit_files(content, world['images'])
            assert name not in [finding.name for finding in again]
            assert not any(finding.check.fatal for finding in again) and len(content['annotations'])

    gets = f'{"refused" if CHECKS[name].fatal else "warning"}: {name}; {CHECKS[name].remedy}'
    return Row(id, broken, gets, check, 'nothing: the right value is not known' if left else CHECKS[name].fix)


def refused(id, broken, act, says):
    """A fault that ``act`` on the world ends with, by an error of one line that says ``says``."""
    def check(world):
        with pytest.raises(UserError, match=re.escape(says)) as error:
            act(world)
        assert '\n' not in str(error.value)
    return Row(id, broken, f'refused: ... {says} ...', check)


def warned(id, broken, act, says):
    def check(world):
        act(world)
        assert says in ' '.join(world['capsys'].readouterr().err.split())
    return Row(id, broken, f'warning: ... {says} ...', check)


def text(content):
    """A file of this content, read and looked through."""
    def act(world):
        path = world['folder'] / 'file.json'
        path.write_bytes(content)
        check_structure('file.json', read_json(str(path)))
    return act


def detector(change=None, splits=('train', 'val'), train=None, val=None):
    """A check of a detector's data sets; ``train`` and ``val`` change the files, ``change`` the config."""
    def act(world):
        for split, edit in (('train', train), ('val', val)):
            content = coco()
            if edit:
                edit(content)
            (world['folder'] / f'{split}.json').write_text(json.dumps(content))
        data = {split: dict(type='CocoDataset', data_root=str(world['folder']), ann_file=f'{split}.json',
                            data_prefix=dict(img=world['images']), metainfo=dict(classes=('cat', 'dog')),
                            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_mask=True)])
                for split in ('train', 'val')}
        cfg = Config(dict(
            default_scope='mmdet', model=dict(bbox_head=dict(num_classes=2)),
            val_evaluator=dict(type='CocoMetric', ann_file=str(world['folder'] / 'val.json'), metric=['bbox', 'segm']),
            **{f'{split}_dataloader': dict(dataset=dataset) for split, dataset in data.items()}))
        if change:
            change(cfg, world['folder'])
        return check_datasets(cfg, splits)
    return act


def classifier(change, **metainfo):
    """A check of a classifier's folders of classes."""
    def act(world):
        root = world['folder']
        for split in ('train', 'val'):
            for name in ('cat', 'dog', 'fox'):
                (root / split / name).mkdir(parents=True)
                (root / split / name / 'a.jpg').touch()
        change(root)
        return check_datasets(Config(dict(
            default_scope='mmpretrain', model=dict(head=dict(num_classes=3)),
            **{f'{split}_dataloader': dict(dataset=dict(
                type='CustomDataset', data_root=str(root), data_prefix=split, metainfo=metainfo))
               for split in ('train', 'val')})), ('train', 'val'))
    return act


def option(key, value=1, tta=None, line=''):
    """A config, whose last line is given, read with an option of --cfg-options."""
    def act(world):
        path = world['folder'] / 'config.py'
        path.write_text(
            "default_scope = 'mmdet'\npipeline = [dict(type='LoadImageFromFile')]\nepochs = 3\ndata_root = 'data'\n"
            'model = dict(type="RetinaNet", backbone=dict(type="mmltm.LTMSwin", merger=dict(type="LTM", ratio=0.7)), '
            'bbox_head=dict(num_classes=2))\ntrain_cfg = dict(max_epochs=epochs)\n'
            "test_dataloader = dict(dataset=dict(type='CocoDataset', data_root=data_root, pipeline=pipeline))\n"
            + line)
        cfg = load_config(str(path), {key: value} if key else {})
        check_loop(cfg)
        if tta:
            set_tta(cfg, tta)
    return act


def written(path, content):
    path.write_text(content)
    return str(path)


def built(drop_last=False, **dataset):
    """A training set of a detector, built, in batches of eight."""
    def act(world):
        path = written(world['folder'] / 'train.json', json.dumps(coco()))
        runner = Runner(
            BaseModule(), world['folder'], default_scope='mmdet', experiment_name=str(world['folder']),
            train_cfg=dict(by_epoch=True, max_epochs=1), optim_wrapper=dict(optimizer=dict(type='SGD', lr=1)),
            train_dataloader=dict(
                batch_size=8, num_workers=0, drop_last=drop_last, sampler=dict(type='DefaultSampler'), dataset=dict(
                    type='CocoDataset', ann_file=path, data_prefix=dict(img=world['images']), pipeline=[],
                    metainfo=dict(classes=('cat', 'dog')), **dataset)))
        build_loop(runner, 'train')
    return act


def listing(line):
    """A classifier's list of two images, the second line of which is given."""
    def act(world):
        image = world['folder'] / 'images' / 'cat' / 'a.jpg'
        image.parent.mkdir(parents=True)
        image.touch()
        written(world['folder'] / 'list.txt', f'cat/a.jpg 0\n{line}\n')
        check_datasets(Config(dict(
            default_scope='mmpretrain', model=dict(head=dict(num_classes=3)), train_dataloader=dict(dataset=dict(
                type='CustomDataset', data_root=str(world['folder']), data_prefix='images', ann_file='list.txt')))),
            ('train', ))
    return act


def trained_on(*classes):
    """A test of a checkpoint that was trained on these classes."""
    return lambda world: check_classes('last.pth', dict(meta=dict(dataset_meta=dict(CLASSES=classes))),
                                       detector()(world))


def swap_categories(content):
    content['categories'].reverse()


def swap_classes(split):
    def change(cfg, folder):
        cfg[f'{split}_dataloader'].dataset.metainfo.classes = ('dog', 'cat')
    return change


def in_folder(act):
    return lambda root: act(root / 'val')


def other_ground_truth(cfg, folder):
    content = coco()
    del content['images'][3]
    content['annotations'] = content['annotations'][:6]
    (folder / 'other.json').write_text(json.dumps(content))
    cfg.val_evaluator.ann_file = str(folder / 'other.json')


def other_classes(cfg, folder):
    content = coco()
    content['categories'][1]['name'] = 'circle'
    (folder / 'other.json').write_text(json.dumps(content))
    cfg.val_evaluator.ann_file = str(folder / 'other.json')


def outside(content):
    every('annotations', bbox=[40, 30, 10, 10])(content)


MASK = 'segmentation cannot be read as polygons or RLE'
BOX = 'bbox is missing or not four finite numbers'
SIZE = 'width or height is missing or not above 0, or too large'
THREE = 'polygon of fewer than 3 points, or of an odd number of coordinates'
SQUARE = [2, 3, 12, 3, 12, 13, 2, 13]
NAN = float('nan')
ROWS = [
    refused('no-json', 'an annotation file that is cut off', text(b'{"images": ['), 'cannot read annotation file'),
    refused('bytes', 'an annotation file of other bytes', text(b'\xff\xd8\xff'), 'cannot read annotation file'),
    refused('bom', 'an annotation file with a byte order mark', text(b'\xef\xbb\xbf{}'), 'Unexpected UTF-8 BOM'),
    refused('utf-16', 'an annotation file in UTF-16', text('{}'.encode('utf-16')), 'cannot read annotation file'),
    refused('deep', 'brackets nested 100,000 deep', text(b'[' * 100_000), 'cannot read annotation file'),
    refused('a-list', 'a file that is a list, as of results', text(b'[]'), 'file.json holds a list, no object'),
    refused('no-categories', 'no `categories`', text(b'{"images": []}'), 'categories is missing or no list of objects'),
    refused('odd-items', 'annotations that are no objects', text(
        b'{"images": [], "categories": [], "annotations": [1]}'), 'annotations is missing or no list of objects'),
    refused('no-images', 'an empty list of images', text(b'{"images": [], "categories": []}'),
            'file.json lists no image'),
    in_file('image-twice', 'an image id twice', again('images', 1), 'image id occurs before'),
    in_file('image-id-text', 'ids of images as text', of('images', 1, id='2'), 'image id is no whole number'),
    in_file('image-id-absent', 'an image without id', of('images', 1, id=None), 'image id is no whole number'),
    in_file('id-overflow', 'an id of 30 digits', of('images', 1, id=10**30), 'image id is no whole number'),
    in_file('no-file-name', 'an image without `file_name`', of('images', 0, file_name=None),
            'file_name is missing or no text'),
    in_file('no-size', 'an image without `width`', of('images', 0, width=None), SIZE),
    in_file('size-text', '`height` as text', of('images', 0, height='20'), SIZE),
    in_file('size-claimed', 'an image of 2,147,483,648 x 20 pixels, whose masks would take gigabytes', of(
        'images', 0, width=2**31), SIZE),
    in_file('other-size', '`width` and `height` exchanged', of('images', 0, width=HEIGHT, height=WIDTH),
            'width and height are not those of the file'),
    in_file('exif', 'a photograph turned by its EXIF orientation', of('images', 0, file_name='sideways.jpg'),
            'width and height are those of the file before its EXIF rotation', left=True),
    in_file('no-image', 'an image file that is not there', of('images', 0, file_name='gone.jpg'),
            'file does not exist'),
    in_file('empty-image', 'an image file of 0 bytes', of('images', 0, file_name='empty.jpg'), 'file is empty'),
    in_file('category-twice', 'a category twice', again('categories', 1), 'category id occurs before'),
    in_file('category-id-shared', 'two categories of one id', lambda content: content['categories'].append(
        dict(id=1, name='fox')), 'category id occurs before', left=True),
    in_file('category-id-text', 'category ids as text, in annotations, too', lambda content: (
        every('categories', id='7')(content), every('annotations', category_id='7')(content),
        content['categories'].pop()), 'category id is no whole number'),
    in_file('name-twice', 'a name of two categories', of('categories', 1, name='cat'), 'category name occurs before'),
    in_file('no-name', 'a category without `name`', of('categories', 1, name=None),
            'category has no name, or one that is no text'),
    in_file('name-number', 'a name that is a number', of('categories', 1, name=5),
            'category has no name, or one that is no text'),
    in_file('annotation-twice', 'an annotation id twice', of('annotations', 1, id=1), 'annotation id occurs before'),
    in_file('annotation-id-text', 'an annotation id as text', of('annotations', 1, id='a'),
            'annotation id is no whole number'),
    in_file('annotation-0', 'annotations numbered from 0', of('annotations', 0, id=0), 'annotation id is 0'),
    in_file('unknown-image', 'an annotation of an unknown image', of('annotations', 0, image_id=99),
            'image_id is of no image'),
    in_file('image-id-mixed', '`image_id` as text, the image\'s `id` not', of('annotations', 0, image_id='1'),
            'image_id is of no image'),
    in_file('unknown-category', 'an annotation of an unknown category', of('annotations', 0, category_id=99),
            'category_id is of no category'),
    in_file('no-iscrowd', 'no `iscrowd`', every('annotations', iscrowd=None), 'iscrowd is missing', 8),
    in_file('iscrowd-text', '`iscrowd` as text, which is true', of('annotations', 0, iscrowd='0'),
            'iscrowd is neither 0 nor 1'),
    in_file('no-area', 'no `area`', every('annotations', area=None), 'area is missing or no number', 8),
    in_file('area-text', '`area` as text', of('annotations', 0, area='100'), 'area is missing or no number'),
    in_file('area-0', '`area` of 0', of('annotations', 0, area=0), 'area is not above 0'),
    in_file('no-bbox', 'no `bbox`', of('annotations', 0, bbox=None), BOX),
    in_file('bbox-length', '`bbox` of three numbers', of('annotations', 0, bbox=[1, 2, 3]), BOX),
    in_file('bbox-nan', '`bbox` with NaN', of('annotations', 0, bbox=[1, 2, NAN, 4]), BOX),
    in_file('bbox-text', '`bbox` of texts', of('annotations', 0, bbox=['1', '2', '3', '4']), BOX),
    in_file('bbox-negative', 'a box of negative width', of('annotations', 0, bbox=[12, 3, -10, 10]),
            'bbox has a side below 1 pixel'),
    in_file('bbox-empty', 'a box of height 0', of('annotations', 0, bbox=[2, 3, 10, 0]),
            'bbox has a side below 1 pixel'),
    in_file('bbox-outside', 'a box outside its image', of('annotations', 0, bbox=[40, 3, 10, 10]),
            'bbox is outside the image'),
    in_file('bbox-beyond', 'boxes as x1, y1, x2, y2', of('annotations', 7, bbox=[9, 3, 29, 13]),
            'bbox reaches beyond the image'),
    in_file('no-mask', 'an annotation without `segmentation` beside others with', of(
        'annotations', 0, segmentation=None), 'segmentation is missing or empty'),
    in_file('empty-mask', '`segmentation` is `[]`', of('annotations', 0, segmentation=[]),
            'segmentation is missing or empty'),
    in_file('flat-mask', 'a polygon that is in no list', of('annotations', 0, segmentation=SQUARE),
            'segmentation is one flat list'),
    in_file('mask-text', '`segmentation` is a text', of('annotations', 0, segmentation='square'), MASK),
    in_file('two-points', 'polygons of two points alone', of('annotations', 0, segmentation=[[2, 3, 12, 13]]), MASK),
    in_file('one-short', 'a polygon of two points beside a whole one', of(
        'annotations', 0, segmentation=[[2, 3, 12, 13], SQUARE]), THREE),
    in_file('odd', 'a polygon of nine numbers beside a whole one', of(
        'annotations', 0, segmentation=[[*SQUARE, 1], SQUARE]), THREE),
    in_file('mask-nan', 'a polygon with NaN, for which pycocotools takes all memory', of(
        'annotations', 0, segmentation=[[*SQUARE[:7], NAN]]), MASK),
    in_file('mask-far', 'a polygon a million pixels away, as NaN', of(
        'annotations', 0, segmentation=[[*SQUARE[:7], 1e9]]), MASK),
    in_file('mask-line', 'a polygon without area', of('annotations', 0, segmentation=[[2, 3, 12, 3, 7, 3]]),
            'mask has no area'),
    in_file('mask-outside', 'a polygon outside its image', of(
        'annotations', 0, segmentation=[[42, 3, 52, 3, 52, 13]]), 'mask is outside the image'),
    in_file('rle-size', 'RLE of another size than its image', of(
        'annotations', 0, segmentation=dict(size=[WIDTH, HEIGHT], counts=[0, WIDTH * HEIGHT])),
        'RLE is of another size than the image'),
    in_file('rle-size-list', 'RLE whose size holds a list', of('annotations', 0, segmentation=dict(
        size=[HEIGHT, []], counts=[0, WIDTH * HEIGHT])), MASK),
    in_file('rle-sum', 'RLE that ends early', of('annotations', 0, segmentation=dict(
        size=[HEIGHT, WIDTH], counts=[0, 10])), 'RLE is of another size than the image'),
    in_file('rle-text', 'compressed RLE that ends early, where pycocotools takes pixels from anywhere', of(
        'annotations', 0, segmentation=dict(size=[HEIGHT, WIDTH], counts='04')),
        'RLE is of another size than the image'),
    in_file('rle-garbage', 'compressed RLE of other letters', of('annotations', 0, segmentation=dict(
        size=[HEIGHT, WIDTH], counts='zzzz')), MASK),
    in_file('rle-counts', 'RLE without `counts`', of('annotations', 0, segmentation=dict(size=[HEIGHT, WIDTH])), MASK),
    in_file('file-twice', 'an image listed under two ids', lambda content: (
        content['images'].append(dict(content['images'][0], id=9)), of('annotations', 0, image_id=9)(content)),
        'file_name occurs before'),
    in_file('object-twice', 'an object annotated twice', lambda content: content['annotations'].append(
        dict(content['annotations'][0], id=99)), 'annotation repeats another'),
    in_file('ids-float', 'ids as 1.0', of('images', 0, id=1.), 'image id is no whole number'),
    in_file('id-list', 'an id that is a list', of('annotations', 0, image_id=[1]), 'image_id is of no image'),
    in_file('windows-path', 'a file name with backslashes', of('images', 0, file_name='sub\\1.jpg'),
            'file does not exist'),
    in_file('letter-case', 'a file name in other letter case', of('images', 0, file_name='1.JPG'),
            'file does not exist'),
    in_file('folder-name', 'a folder as image', of('images', 0, file_name='.'), 'file does not exist'),
    in_file('size-nan', '`width` of NaN', of('images', 0, width=NAN), SIZE),
    in_file('bbox-dict', '`bbox` as an object', of('annotations', 0, bbox=dict(x=1, y=2, w=3, h=4)), BOX),
    in_file('normalised', 'boxes from 0 to 1', every('annotations', bbox=[0.1, 0.1, 0.5, 0.5]),
            'no annotation can be used', 8, left=True),
    in_file('one-percent', 'more than 1% of the objects of no use', of('annotations', 0, area=-1),
            'more than 1% of the annotations cannot be used'),
    in_file('all-crowd', 'nothing but crowds', every('annotations', iscrowd=1), 'no annotation can be used', 8,
            left=True),
    in_file('all-outside', 'all boxes outside', outside, 'no annotation can be used', 8, left=True),
    in_file('no-annotations', 'an empty list of annotations', lambda content: content['annotations'].clear(),
            'no annotation can be used', 0, left=True),
    refused('like', 'a name that another file lacks, with `check_coco.py --like`', lambda world: sort_categories(
        coco(), dict(categories=[dict(name='cat'), dict(name='Dog')]), 'train.json'),
        'only in this file: dog; only in train.json: Dog'),
    refused('train-fault', 'such a fault in the training file', detector(train=again('images', 0)),
            'image id occurs before: 1 of 5 images, first 1'),
    refused('val-fault', 'such a fault in the validation file, before anything is trained', detector(
        val=of('annotations', 1, segmentation=None)), 'segmentation is missing or empty: 1 of 8 annotations, first 2'),
    refused('val-order', 'a validation file with its categories in another order', detector(val=swap_categories),
            '/val.json --like '),
    refused('train-order', 'a training file in another order than the config', detector(train=swap_categories),
            'set metainfo.classes of all data sets to dog, cat'),
    refused('split-order', 'classes of training and validation named in different orders, each as its file', detector(
        swap_classes('val'), val=swap_categories),
        'has other classes than train_dataloader.dataset, first at 0: dog, cat, against cat, dog'),
    refused('category-gone', 'a class that the file lacks', detector(val=of('categories', 1, name='Dog')),
            'categories dog are not in the annotations'),
    refused('other-truth', 'an evaluator that knows fewer images', detector(other_ground_truth),
            'lacks 1 of 4 images of'),
    refused('other-classes', 'an evaluator that knows other classes', detector(other_classes),
            'lacks 1 of 2 categories of'),
    warned('small-faults', 'faults that are no reason to stop', detector(train=every('annotations', iscrowd=None)),
           'iscrowd is missing'),
    refused('json-suffix', 'a fault in an annotation file without `.json`', detector(
        lambda cfg, folder: (folder / 'val.json').rename(folder / 'val') and
        cfg.val_dataloader.dataset.update(ann_file='val'), val=again('images', 0)), 'image id occurs before'),
    warned('overlap', 'images that are trained with and validated with', detector(), '4 of 4 images or folders are'),
    refused('all-filtered', 'boxes all smaller than `filter_cfg.min_size`', built(
        filter_cfg=dict(min_size=32)), 'train_dataloader: no image is left in a data set'),
    refused('no-batch', 'fewer images than a batch, with `drop_last`', built(drop_last=True),
            'train_dataloader gives no batch: 4 images do not fill one of 8'),
    *(refused(id, broken, listing(line), says) for id, broken, line, says in (
        ('label-range', 'a label above the number of classes in a list of images', 'cat/a.jpg 3',
         '1 of 2 lines have a label that is not from 0 to 2, first line 2'),
        ('label-missing', 'a line without label', 'cat/a.jpg', 'no whole number behind a name, which is the label'),
        ('label-name', "a class's name as label", 'cat/a.jpg cat', 'no whole number behind a name'),
        ('line-blank', 'a blank line in a list of images', '', 'no whole number behind a name'),
        ('listed-gone', 'a list of images that names none', 'cat/b.jpg 0', '1 of 2 lines have a name of no file in'))),
    refused('checkpoint-order', 'a checkpoint of classes in another order', trained_on('dog', 'cat'),
            '2 of 2 classes have another label than in checkpoint last.pth, first cat (0, there 1)'),
    refused('checkpoint-shifted', 'a checkpoint of one class more in front', trained_on('background', 'cat', 'dog'),
            'first cat (0, there 1)'),
    Row('hidden-folder', 'a hidden folder beside the classes (`.ipynb_checkpoints`)', 'accepted: it is no class',
        lambda world: check_same(classifier(in_folder(lambda val: (val / '.ipynb_checkpoints').mkdir()))(world))),
    refused('folder-gone', 'a class folder that validation lacks', classifier(
        in_folder(lambda val: (val / 'dog').rename(val / '.dog'))),
            '/train: dog: rename them, or make the missing ones'),
    refused('folder-renamed', 'a class folder of another name', classifier(
        in_folder(lambda val: (val / 'dog').rename(val / 'Dog'))), '/val: Dog: rename them'),
    warned('folder-empty', 'a class folder without images', classifier(
        in_folder(lambda val: (val / 'dog' / 'a.jpg').unlink())), '1 of 3 classes have no image in'),
    refused('folders-empty', 'class folders without any image', classifier(in_folder(
        lambda val: [path.unlink() for path in val.glob('*/*')])), 'no sub-folder of'),
    refused('folder-count', 'more folders than named classes', classifier(lambda root: None, classes=['cat', 'dog']),
            'the numbers of classes differ'),
    refused('key-part', '`trian_cfg.max_epochs=1`', option('trian_cfg.max_epochs'),
            'did you mean train_cfg.max_epochs?'),
    refused('key-leaf', '`train_cfg.max_epoch=1`', option('train_cfg.max_epoch'), 'did you mean train_cfg.max_epochs?'),
    refused('key-argument', '`model.bbox_head.num_class=1`', option('model.bbox_head.num_class'),
            'did you mean model.bbox_head.num_classes?'),
    refused('key-merger', '`model.backbone.merger.raito=0.5`', option('model.backbone.merger.raito'),
            'did you mean model.backbone.merger.ratio?'),
    refused('key-entry', '`test_dataloader.dataset.pipeline.3.type=X`, of one entry', option(
        'test_dataloader.dataset.pipeline.3.type'), 'is a list of 1 entries'),
    refused('key-below', 'a key below a number', option('train_cfg.max_epochs.x'), 'is 3, which has nothing below'),
    refused('key-variable', "a number's name within the config file", option('epochs'),
            'set what is made of it, one of train_cfg.max_epochs'),
    refused('key-root', '`data_root=DIR` as an option of the config', option('data_root'), 'use --data-root DIR'),
    *(refused(id, broken, option(f'train_cfg.{key}', value), says) for id, broken, key, value, says in (
        ('never-validated', '`train_cfg.val_interval=0`, divided by after an epoch', 'val_interval', 0,
         'train_cfg.val_interval is 0, expected a whole number of at least 1'),
        ('no-epoch', '`train_cfg.max_epochs=0`', 'max_epochs', 0, 'train_cfg.max_epochs is 0'),
        ('half-epoch', '`train_cfg.max_epochs=1.5`', 'max_epochs', 1.5, 'train_cfg.max_epochs is 1.5'))),
    *(refused(id, f'`{line}` in a config', option('', line=line), f'config.py: {says}') for id, line, says in (
        ('loader-type', 'train_dataloader = 3', 'train_dataloader is 3, expected a dict or None'),
        ('dataset-type', 'train_dataloader = dict(dataset=1)', 'train_dataloader.dataset is 1, expected a dict'),
        ('no-dataset', 'val_dataloader = dict()', 'val_dataloader.dataset is missing or None, expected a dict'),
        ('no-type', "val_dataloader = dict(dataset=dict(data_root='data'))",
         'val_dataloader.dataset.type is missing or None, expected a text or a class'),
        ('part-type', "val_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[1]))",
         'val_dataloader.dataset.datasets.0 is 1, expected a dict'),
        ('pipeline-text', "test_dataloader['dataset']['pipeline'] = 'Resize'",
         "test_dataloader.dataset.pipeline is 'Resize', expected a list of dicts or None"),
        ('step-text', "pipeline.append('Resize')", "test_dataloader.dataset.pipeline.1 is 'Resize', expected a dict"),
        ('class-number', "test_dataloader['dataset']['metainfo'] = dict(classes=[0, 1])",
         'test_dataloader.dataset.metainfo.classes.0 is 0, expected a text'),
        ('root-type', "test_dataloader['dataset']['data_root'] = 5",
         'test_dataloader.dataset.data_root is 5, expected a text or None'),
        ('metric-type', 'test_evaluator = 7', 'test_evaluator is 7, expected a dict or a list of dicts or None'),
        ('model-type', 'model = []', 'model is [], expected a dict or None'),
        ('hooks-text', "custom_hooks = 'EMAHook'", "custom_hooks is 'EMAHook', expected a list of dicts or None"))),
    refused('type-option', '`train_cfg=3`, as an option', option('train_cfg', 3),
            'config.py: train_cfg is 3, expected a dict or None'),
    refused('tta-no-resize', '`--tta 0.5 1` for a pipeline that resizes nothing', option('', tta=[0.5, 1]),
            'has none of Resize'),
]


def check_same(labels):
    (train, val) = labels.values()
    assert train.order == val.order == ['cat', 'dog', 'fox']


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.id)
def test_faulty_input(row, world):
    row.check(world)


def test_sound_inputs(world):
    assert audit(coco()) + audit_files(coco(), world['images']) == []
    assert list(repair(coco(), folder=world['images'])) == []
    assert detector()(world).keys() == {'train_dataloader.dataset', 'val_dataloader.dataset'}


def test_turned_image_passes_as_it_is_loaded(world):
    turned = dict(images=[dict(id=1, file_name='sideways.jpg', width=HEIGHT, height=WIDTH)])
    assert not audit_files(turned, world['images'])
    assert audit_files(turned, world['images'], upright=False)


# What happens to a run, what it gets, and the test.
RUNS = (
    ('`kill -9` at ten random moments: a step, validation, writing a checkpoint, first statistics',
     'weights, masks, statistics, metrics and log are those of an uninterrupted run, bit for bit',
     'engine/test_sigkill.py', 'killed_and_resumed_equals_uninterrupted'),
    ('a checkpoint that was cut, changed or emptied after it was written',
     'it is named; training goes on from the newest whole one', 'engine/test_whole_files.py',
     'resumes_from_the_newest_whole_checkpoint'),
    ('a disk that fills while a checkpoint is written', 'refused: ... cannot write ... No space left on device ...; '
     'what was written before is whole, and resumes', 'engine/test_whole_files.py', 'training_on_a_full_disk'),
    ('a disk that fills while `--out` is written', 'the same', 'tools/test_test_cli.py',
     'full_disk_leaves_earlier_results'),
    ('`--out`, `--show-dir` or `--work-dir` that cannot be written to', 'refused before anything is computed',
     'tools/test_test_cli.py', 'unwritable_out_is_refused_before_the_test'),
    ('a data loader worker killed by the system', 'refused: ... data loader worker 7 was killed (signal: Killed) ...',
     'test_errors.py', 'known_errors_are_one_line'),
    ('Ctrl-C', 'one line, status 130', 'test_errors.py', 'ctrl_c_is_one_line'),
    ('Ctrl-C while a tool starts', 'the same', 'tools/test_train_cli.py', 'ctrl_c_while_a_tool_starts'),
    ('Ctrl-C while a checkpoint is written', 'the same; no half file is left', 'engine/test_whole_files.py',
     'ctrl_c_leaves_no_half_file'),
    ('a rank killed in the middle of an epoch', 'it is named; with `MAX_RESTARTS` the job starts again, and comes to '
     'the same weights', 'engine/test_torchrun.py', 'a_killed_rank_is_named_and_the_job_starts_again'),
    ('a label map that is missing, of another size, in colours, or holds the number of no class', 'refused before '
     'training', 'tools/test_segmentation_clis.py', 'faulty_label_maps_are_named'),
    ('a config of mmseg without mmseg', 'one line, which says how to install it', 'tools/test_segmentation_clis.py',
     'without_mmseg_the_line_says_how_to_install_it'),
    ('FSDP or DeepSpeed with what they cannot do, or without DeepSpeed', 'refused before training',
     'engine/test_sharded.py', 'refused_before_training'),
)


def page():
    from tests.apis import test_hostile_inputs
    hostile = test_hostile_inputs.ROWS
    count = len(ROWS) + len(hostile) + len(RUNS)
    lines = ['# Faulty inputs, and what each gets', '',
             f'{count} kinds, each a test; `python -m tests.apis.test_faulty_inputs` writes this page. "refused" ends '
             'in one line, before a model is built; a "warning" goes on.', '', AUDIT, '',
             '## Data sets, annotations, options', '', '| input | gets | `--fix` |', '| --- | --- | --- |',
             *(f'| {row.broken} | {row.gets} | {row.fix} |' for row in ROWS), '',
             '## Checkpoints, pickles, images, outputs', '', '| input | gets |', '| --- | --- |',
             *(f'| {row.broken} | {row.gets} |' for row in hostile), '',
             '## Runs', '', '| what happens | what follows | test |', '| --- | --- | --- |',
             *(f'| {what} | {gets} | `tests/{file}` |' for what, gets, file, _ in RUNS), '']
    return '\n'.join(lines)


@pytest.mark.parametrize('file, name', [run[2:] for run in RUNS])
def test_runs_have_their_tests(file, name):
    assert f'\ndef test_{name}(' in (ROOT / 'tests' / file).read_text()


def test_page_is_up_to_date():
    assert PAGE.read_text() == page()


def test_every_check_has_a_row():
    gets = ' '.join(row.gets for row in ROWS)
    assert not [name for name in CHECKS if name not in gets]


if __name__ == '__main__':
    PAGE.write_text(page())
