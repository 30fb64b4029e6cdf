"""Tests of the mini detection set: what is drawn, what is written, and what is cut out of a COCO folder."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from shapely.geometry import Polygon

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_mini_coco.py'
# A tool is a script whose neighbours are importable because it lies beside them.

import cut_coco  # noqa: E402
import draw_coco  # noqa: E402
import make_mini_coco  # noqa: E402
import shape_scenes  # noqa: E402

COUNTS = dict(train2017=12, val2017=4)
SIZE = ((96, 128), (96, 96))
GENERATE = ['--num-train', '12', '--num-val', '4', '--size', '96-128x96', '--seed', '3']


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    """A small generated set."""
    out = tmp_path_factory.mktemp('sets') / 'mini'
    assert make_mini_coco.main(['generate', str(out), *GENERATE]) == 0
    return out


@pytest.fixture(scope='module')
def scenes():
    """(scene, image, owner) of images as they are by default."""
    return [draw_coco.draw_image(((256, 256), (256, 256)), 6, 0, 'train2017', i) for i in range(40)]


def read(out, split):
    return json.loads((out / 'annotations' / f'instances_{split}.json').read_text())


def contents(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob('*')) if path.is_file()}


def run_tool(*args, **kwargs):
    command = [sys.executable, str(TOOL), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, **kwargs)


def fails_in_one_line(capsys, *args):
    """Run the command line, expect a failure told in one line, and return that line."""
    capsys.readouterr()
    try:
        status = make_mini_coco.main([str(arg) for arg in args])
    except SystemExit as stop:
        status = stop.code
    assert status not in (0, None)
    error = capsys.readouterr().err
    assert error.endswith('\n') and error.count('\n') == 1
    return error


# What is drawn


def test_polygons_agree_with_the_pixels(scenes):
    for scene, _, owner in scenes:
        for number, annotation in enumerate(draw_coco.annotate(scene, 1, 1), 1):
            polygons = mask_utils.frPyObjects(annotation['segmentation'], scene.height, scene.width)
            stored = mask_utils.decode(mask_utils.merge(polygons)).astype(bool)
            drawn = owner == number
            assert (stored & drawn).sum() / (stored | drawn).sum() > 0.95


def test_area_and_bbox_are_those_of_the_polygons(scenes):
    for scene, _, _ in scenes:
        for annotation in draw_coco.annotate(scene, 1, 1):
            rings = [np.reshape(ring, (-1, 2)) for ring in annotation['segmentation']]
            points = np.concatenate(rings)
            low, high = points.min(axis=0), points.max(axis=0)
            assert annotation['area'] == pytest.approx(sum(Polygon(ring).area for ring in rings), abs=0.01)
            assert annotation['bbox'] == pytest.approx([*low, *(high - low)], abs=0.01)
            assert (low >= 0).all() and (high <= (scene.width, scene.height)).all()


def test_visible_parts_are_disjoint_and_recognisable(scenes):
    for scene, _, _ in scenes:
        for i, (item, visible) in enumerate(zip(scene.objects, scene.visible)):
            assert visible.area >= 0.6 * item.outline.area
            assert not any(part.interiors for part in scene.fragments(i))
            assert all(visible.intersection(other).area < 1e-6 for other in scene.visible[:i])


def test_scenes_are_neither_sparse_nor_uniform(scenes):
    items = [(item, visible) for scene, _, _ in scenes for item, visible in zip(scene.objects, scene.visible)]
    counts = Counter(len(scene.objects) for scene, _, _ in scenes)
    hidden = [1 - visible.area / item.outline.area for item, visible in items]
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    assert np.mean(np.array(hidden) > 0.01) > 0.3  # overlapping, or cut by the border
    assert np.mean([visible.area > 32 ** 2 for _, visible in items]) > 0.8  # medium or large, as COCO counts


def test_categories_are_balanced(scenes):
    counts = Counter(item.category for scene, _, _ in scenes for item in scene.objects)
    assert set(counts) == set(shape_scenes.OUTLINES) and len(counts) >= 4
    expected = sum(counts.values()) / len(counts)
    assert all(0.5 * expected < count < 1.5 * expected for count in counts.values())


def test_color_does_not_tell_the_category(scenes):
    means = {category: [] for category in shape_scenes.OUTLINES}
    for scene, image, owner in scenes:
        for number, item in enumerate(scene.objects, 1):
            means[item.category].append(image[owner == number].mean(axis=0))
    overall = np.concatenate(list(means.values())).mean(axis=0)
    for values in means.values():
        deviation = np.abs(np.mean(values, axis=0) - overall)
        assert (deviation < 4 * np.std(values, axis=0) / np.sqrt(len(values))).all()


def test_an_object_within_another_is_refused():
    outer, inner = Polygon([(0, 0), (40, 0), (40, 40), (0, 40)]), Polygon([(15, 15), (25, 15), (20, 25)])
    assert not shape_scenes._shows_its_shape(outer.difference(inner), outer)
    beside = Polygon([(30, 15), (50, 15), (50, 25), (30, 25)])
    assert shape_scenes._shows_its_shape(outer.difference(beside), outer)


def test_label_maps_have_the_category_of_every_pixel(scenes):
    for scene, _, owner in scenes[:5]:
        labels = draw_coco.label_map(scene, owner)
        assert labels.dtype == np.uint8 and not labels[owner == 0].any()
        for number, annotation in enumerate(draw_coco.annotate(scene, 1, 1), 1):
            assert (labels[owner == number] == annotation['category_id']).all()


# What is written


def test_layout_loads_in_pycocotools(mini):
    for split, count in COUNTS.items():
        coco = COCO(str(mini / 'annotations' / f'instances_{split}.json'))
        assert len(coco.imgs) == count == len(list((mini / split).glob('*.jpg')))
        assert min(coco.anns) == 1
        for image in coco.imgs.values():
            pixels = cv2.imread(str(mini / split / image['file_name']))
            assert pixels.shape == (image['height'], image['width'], 3)
            labels = cv2.imread(
                str(mini / 'annotations' / split / image['file_name'].replace('jpg', 'png')), cv2.IMREAD_UNCHANGED)
            assert labels.shape == pixels.shape[:2] and labels.max() <= len(shape_scenes.OUTLINES)
            assert 96 <= image['width'] <= 128 and image['height'] == 96


@pytest.mark.parametrize('split', list(COUNTS))
def test_every_annotation_is_valid_for_mmdet(mini, split):
    coco = read(mini, split)
    dataset = CocoDataset(
        data_root=str(mini),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img=f'{split}/'),
        metainfo=dict(classes=[category['name'] for category in coco['categories']]),
        filter_cfg=dict(filter_empty_gt=True, min_size=32))
    assert len(dataset) == COUNTS[split]
    instances = [instance for i in range(len(dataset)) for instance in dataset.get_data_info(i)['instances']]
    assert len(instances) == len(coco['annotations'])
    assert not any(instance['ignore_flag'] for instance in instances)


def test_same_seed_gives_the_same_bytes(mini, tmp_path):
    draw_coco.generate(tmp_path / 'again', 12, 4, SIZE, seed=3)
    assert contents(tmp_path / 'again') == contents(mini)
    draw_coco.generate(tmp_path / 'other', 12, 4, SIZE, seed=4)
    other = contents(tmp_path / 'other')
    assert all(other[path] != content for path, content in contents(mini).items() if path.suffix == '.jpg')


def test_images_do_not_depend_on_their_number(mini, tmp_path):
    draw_coco.generate(tmp_path / 'few', 3, 1, SIZE, seed=3)
    few, many = read(tmp_path / 'few', 'train2017'), read(mini, 'train2017')
    assert few['images'] == many['images'][:3]
    assert few['annotations'] == many['annotations'][:len(few['annotations'])]
    for image in few['images']:
        name = Path('train2017') / image['file_name']
        assert (tmp_path / 'few' / name).read_bytes() == (mini / name).read_bytes()


def test_splits_differ(mini):
    first = '000000000001.jpg'
    assert (mini / 'train2017' / first).read_bytes() != (mini / 'val2017' / first).read_bytes()


def test_runs_as_a_script_from_any_folder(tmp_path):
    done = run_tool('generate', 'set', '--num-train', 1, '--num-val', 1, '--size', '64x64', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'train2017' in done.stdout and all(category in done.stdout for category in shape_scenes.OUTLINES)
    assert sorted(os.listdir(tmp_path)) == ['set']
    assert 'examples:' in run_tool('--help').stdout


# Running again


def test_a_complete_set_is_reused(mini, capsys):
    before = {path: path.stat().st_mtime_ns for path in mini.rglob('*')}
    assert make_mini_coco.main(['generate', str(mini), *GENERATE]) == 0
    output = capsys.readouterr().out
    assert output.count('\n') == 1 and 'already there' in output
    assert {path: path.stat().st_mtime_ns for path in mini.rglob('*')} == before


def test_another_set_is_replaced_only_by_force(tmp_path, capsys):
    args = ['generate', tmp_path / 'set', '--num-val', 1, '--size', '64x64']
    draw_coco.generate(tmp_path / 'set', 1, 1, ((64, 64), (64, 64)))
    assert '--force' in fails_in_one_line(capsys, *args, '--num-train', 2)
    assert make_mini_coco.main([str(arg) for arg in args] + ['--num-train', '2', '--force']) == 0
    assert len(read(tmp_path / 'set', 'train2017')['images']) == 2
    assert os.listdir(tmp_path) == ['set']


def test_a_set_that_lost_files_is_not_reused(tmp_path, capsys):
    draw_coco.generate(tmp_path / 'set', 1, 1, ((64, 64), (64, 64)))
    (tmp_path / 'set/val2017/000000000001.jpg').unlink()
    args = ['generate', tmp_path / 'set', '--num-train', 1, '--num-val', 1, '--size', '64x64']
    assert 'val2017' in fails_in_one_line(capsys, *args)


@pytest.mark.parametrize('force', [[], ['--force']])
def test_what_the_tool_did_not_make_is_never_touched(tmp_path, capsys, force):
    (tmp_path / 'thesis.tex').write_text('years of work')
    assert 'did not make' in fails_in_one_line(capsys, 'generate', tmp_path, *force)
    assert contents(tmp_path) == {Path('thesis.tex'): b'years of work'}


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(scene, rng):
        raise KeyboardInterrupt

    monkeypatch.setattr(draw_coco, 'render', interrupt)
    assert make_mini_coco.main(['generate', str(tmp_path / 'set')]) == 130
    assert not list(tmp_path.iterdir())


# Cutting a COCO folder down


def test_selection_keeps_order_crowds_and_categories():
    def annotation(id, image_id, **changes):
        usual = dict(id=id, image_id=image_id, category_id=1, iscrowd=0, area=9, bbox=[1, 1, 3, 3])
        return {**usual, **changes}

    coco = dict(
        info=dict(year=2017), licenses=[dict(id=1)], categories=[dict(id=1, name='a'), dict(id=2, name='b')],
        images=[dict(id=i, file_name=f'{i}.jpg', width=10, height=10) for i in (9, 8, 7, 6, 5, 4, 3, 2, 1)],
        annotations=[
            annotation(1, 1), annotation(2, 2), annotation(3, 3), annotation(4, 3, iscrowd=1),
            annotation(5, 4, iscrowd=1), annotation(6, 5, area=0), annotation(7, 6, bbox=[1, 1, 0.5, 3]),
            annotation(8, 7, bbox=[20, 1, 3, 3]), annotation(9, 8, category_id=3),
            annotation(10, 9, ignore=1), annotation(11, 99)])
    selected = cut_coco.select_images(coco, 2)
    assert [image['id'] for image in selected['images']] == [3, 2]
    assert [a['id'] for a in selected['annotations']] == [2, 3, 4]
    assert all(selected[key] == coco[key] for key in ('info', 'licenses', 'categories'))
    assert len(cut_coco.select_images(coco, 100)['images']) == 3


@pytest.mark.parametrize('symlink', [False, True])
def test_subset_of_a_generated_set(mini, tmp_path, symlink):
    args = ['subset', str(mini), str(tmp_path / 'cut'), '--num-images', '2', '--splits', 'val2017', 'val2017']
    assert make_mini_coco.main(args + ['--symlink'] * symlink) == 0
    whole, cut = read(mini, 'val2017'), read(tmp_path / 'cut', 'val2017')
    assert cut['images'] == whole['images'][:2]
    assert sorted(os.listdir(tmp_path / 'cut')) == ['annotations', 'mini_coco.json', 'val2017']
    for image in cut['images']:
        path = tmp_path / 'cut/val2017' / image['file_name']
        assert path.is_symlink() == symlink
        assert path.read_bytes() == (mini / 'val2017' / image['file_name']).read_bytes()


def test_crops_show_each_object_whole(mini, tmp_path, capsys):
    args = ['crops', str(mini), str(tmp_path / 'crops'), '--size', '32']
    assert make_mini_coco.main(args) == 0
    for split in COUNTS:
        coco = read(mini, split)
        names = {category['id']: category['name'] for category in coco['categories']}
        pictures = {int(path.stem): path for path in (tmp_path / 'crops' / split).glob('*/*.jpg')}
        assert {i: path.parent.name for i, path in pictures.items()} == {
            item['id']: names[item['category_id']] for item in coco['annotations']}
        # The centre of a picture is that of its object's box.
        item = coco['annotations'][0]
        image = cv2.imread(str(mini / split / coco['images'][0]['file_name'])).astype(float)
        x, y, w, h = item['bbox']
        radius = max(w, h) * cut_coco.MARGIN / 2
        padded = cv2.copyMakeBorder(image, 99, 99, 99, 99, cv2.BORDER_REPLICATE)
        top, left = round(99 + y + h / 2 - radius), round(99 + x + w / 2 - radius)
        side = round(2 * radius)
        expected = cv2.resize(padded[top:top + side, left:left + side], (32, 32))
        assert np.abs(cv2.imread(str(pictures[item['id']])) - expected).mean() < 0.5 * expected.std()
    assert make_mini_coco.main(args) == 0
    assert 'already there' in capsys.readouterr().out


def test_subset_of_real_coco(shared, tmp_path, capsys):
    real = shared / 'data' / 'coco'
    args = ['subset', str(real), str(tmp_path / 'cut'), '--num-images', '5']
    assert make_mini_coco.main(args) == 0
    assert 'more' in capsys.readouterr().out  # 80 categories do not fill the screen
    for split in COUNTS:
        dataset = CocoDataset(
            data_root=str(tmp_path / 'cut'),
            ann_file=f'annotations/instances_{split}.json',
            data_prefix=dict(img=f'{split}/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32))
        whole = read(real, split)
        kept = [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
        assert len(kept) == 5
        order = [image['id'] for image in whole['images']]
        assert kept == sorted(kept, key=order.index)
        cut = read(tmp_path / 'cut', split)
        assert cut['annotations'] == [a for a in whole['annotations'] if a['image_id'] in kept]
        assert cut['categories'] == whole['categories'] and len(cut['categories']) == 80
    assert make_mini_coco.main(args) == 0
    assert 'already there' in capsys.readouterr().out


# Errors


@pytest.mark.parametrize('args', [
    ['--size', 'large'], ['--size', '256'], ['--size', '8x8'], ['--size', '128-64x64'],
    ['--size', '99999x64'], ['--num-train', '0'], ['--num-val', '-3'], ['--max-objects', 'many'],
    ['--seed', '-1'],
])
def test_bad_arguments_are_named(tmp_path, capsys, args):
    error = fails_in_one_line(capsys, 'generate', tmp_path / 'set', *args)
    assert args[0] in error and args[1] in error
    assert not list(tmp_path.iterdir())


def test_output_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / 'set').write_text('')
    assert str(tmp_path / 'set') in fails_in_one_line(capsys, 'generate', tmp_path / 'set')


@pytest.mark.parametrize('lost, named', [
    ('', 'annotations/instances_train2017.json'),
    ('annotations/instances_val2017.json', 'annotations/instances_val2017.json'),
    ('train2017', 'train2017'),
    ('train2017/000000000002.jpg', 'train2017/000000000002.jpg'),
])
def test_missing_parts_of_a_source_are_named(mini, tmp_path, capsys, lost, named):
    src = tmp_path / 'src'
    (src / 'annotations').mkdir(parents=True)
    for split in COUNTS:
        (src / split).symlink_to(mini / split)
        (src / f'annotations/instances_{split}.json').symlink_to(mini / f'annotations/instances_{split}.json')
    if lost.endswith('.jpg'):
        (src / 'train2017').unlink()
        (src / 'train2017').mkdir()
        (src / 'train2017/000000000001.jpg').symlink_to(mini / 'train2017/000000000001.jpg')
    else:
        (src / lost).rename(tmp_path / 'lost')
    error = fails_in_one_line(capsys, 'subset', src, tmp_path / 'cut', '--num-images', 3)
    assert f'{src / named} is missing' in error
    assert not (tmp_path / 'cut').exists()


@pytest.mark.parametrize('text, told', [('{"images": [', 'not valid JSON'), ('{"images": []}', 'categories'),
                                        ('[]', 'no COCO instance file')])
def test_broken_annotations_are_named(tmp_path, capsys, text, told):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'val2017').mkdir()
    annotations = tmp_path / 'annotations/instances_val2017.json'
    annotations.write_text(text)
    args = ['subset', tmp_path, tmp_path / 'cut', '--num-images', 3, '--splits', 'val2017']
    error = fails_in_one_line(capsys, *args)
    assert str(annotations) in error and told in error


def test_source_is_never_the_output(mini, capsys):
    before = contents(mini)
    error = fails_in_one_line(capsys, 'subset', mini, mini, '--num-images', 1, '--force')
    assert 'choose another OUT' in error
    assert contents(mini) == before
