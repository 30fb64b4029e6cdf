#!/usr/bin/env python
"""Feeds mutated files to what reads them: images, checkpoints, annotations and configs. Nightly, not in CI.

    pip install -e '.[fuzz]'
    python tests/fuzz/fuzz.py all                 # 25,000 inputs of each kind
    python tests/fuzz/fuzz.py images --inputs 40000 --out findings

Bytes are mutated by atheris, structures by hypothesis. Allowed: a result, or a UserError. Anything else is
a finding: other errors, more than 20 seconds, more than 1 GB. Each is printed once, its input is saved in --out, and
makes the status 1.
"""

import argparse
import contextlib
import copy
import faulthandler
import gc
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

sys.path.insert(0, os.environ.get('PYTHONPATH') or str(Path(__file__).resolve().parents[2]))
os.environ.update(OPENCV_LOG_LEVEL='SILENT', OPENCV_IO_MAX_IMAGE_PIXELS=str(2**28))  # the limit of the tools
import atheris
import cv2
import mmengine
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer

import mmltm
from mmltm.errors import UserError

SECONDS, MEGABYTES = 20, 1024


def _bytes(content):
    return content if isinstance(content, bytes) else json.dumps(content).encode()


class Watch:
    """Runs one input after the other and notes what must not happen."""

    def __init__(self, inputs, out):
        self.inputs, self.out, self.count, self.passed, self.found = inputs, out, 0, 0, {}
        self.start = time.time()
        out.mkdir(parents=True, exist_ok=True)
        self._running = out / 'running.input'
        signal.signal(signal.SIGALRM, self._late)

    @staticmethod
    def _late(number, frame):
        raise TimeoutError(f'more than {SECONDS} seconds')

    def run(self, work, content):
        """Calls ``work`` on ``content``, bytes or what JSON can hold."""
        self.count += 1
        self._running.write_bytes(_bytes(content))  # stays if the process is ended
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        faulthandler.dump_traceback_later(3 * SECONDS, exit=True)  # if it hangs outside of Python
        signal.alarm(SECONDS)
        try:
            work(content)
            self.passed += 1
        except UserError:  # of one line when it is printed, whatever a key or a path holds
            pass
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in place if '/mmltm/' in frame.filename] or place
            self._note(f'{type(error).__name__} at {Path(own[-1].filename).name}:{own[-1].lineno}', error, content)
        finally:
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if grown > MEGABYTES:
            self._note(f'{grown:.0f} MB', MemoryError(), content)
        if self.count % 500 == 0:
            print(f'{self.count} inputs in {time.time() - self.start:.0f} s', flush=True)

    def _note(self, kind, error, content):
        if kind not in self.found:
            file = self.out / f'{len(self.found)}.input'
            file.write_bytes(_bytes(content))
            print(f'{kind}: {" ".join(str(error).split())[:300]} ({file})', flush=True)
        self.found[kind] = self.found.get(kind, 0) + 1

    def end(self):
        """Says what has been found and ends the process."""
        self._running.unlink()
        print(f'{self.count} inputs in {time.time() - self.start:.0f} s, {self.passed} read, '
              f'{self.count - self.passed - sum(self.found.values())} refused, findings: {self.found or "none"}',
              flush=True)
        os._exit(bool(self.found))  # libFuzzer knows no other way


def fuzz_bytes(work, seeds, watch, number):
    """Lets atheris mutate ``seeds``, and what it has found to reach new code."""
    def mutate(data, max_size, number):
        chance = random.Random(number)
        return atheris.Mutate(data if len(data) > 1 and chance.random() < 0.5 else chance.choice(seeds), max_size)

    def one(data):
        watch.run(work, data)
        if watch.count >= watch.inputs:
            watch.end()

    options = [f'-seed={number}', '-max_len=4096', '-rss_limit_mb=8192', '-verbosity=0']
    atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutate)
    atheris.Fuzz()


def fuzz_structures(work, strategy, watch, number):
    """Lets hypothesis draw from ``strategy``, anew every 2,000 inputs."""
    gc.freeze()  # mmengine's data sets collect garbage, which takes most of the time otherwise
    while watch.count < watch.inputs:
        @seed(number + watch.count)
        @settings(max_examples=min(2000, watch.inputs - watch.count), database=None, deadline=None,
                  phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(strategy)
        def batch(content):
            watch.run(work, content)

        batch()
    watch.end()


ODD = st.sampled_from([
    None, True, 0, -1, 1, 7, 2**31, 2**63, 2**64, -2**70, 0.5, -0.0, 1e308, float('nan'), float('inf'), '', '1', '../x',
    'ä\n', [], {}, [[]], [None], [{}], [0, 0, 0, 0], [1e300] * 8, [[1, 2, 3]], ['a', 'b'],
    dict(size=[4, 4], counts='04'), dict(size=[4, 4], counts=[0, 16]), dict(type='Nothing')])
VALUES = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5)


@st.composite
def mutated(draw, base):
    """A copy of ``base`` of which a few parts are replaced, left out, doubled or moved."""
    content = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 4))):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            deeper = isinstance(node[key], (dict, list)) and node[key]
            if deeper and draw(st.integers(0, 5)):
                node = node[key]
                continue
            action = draw(st.sampled_from(['replace', 'replace', 'delete', 'copy']))
            if action == 'replace':
                node[key] = copy.deepcopy(draw(VALUES))  # may be changed further
            elif action == 'delete':
                del node[key]
            elif isinstance(node, list):
                node.insert(key, copy.deepcopy(node[key]))
            else:
                node[draw(st.sampled_from(keys) | st.text(max_size=5))] = copy.deepcopy(node[key])
            break
    return content


def images(watch, number):
    from mmltm.datasets import LoadImage, Resizing
    array = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    seeds = [cv2.imencode(suffix, array)[1].tobytes() for suffix in
             ('.png', '.jpg', '.bmp', '.tif', '.webp', '.gif', '.ppm', '.hdr')]
    seeds += [cv2.imencode(suffix, value)[1].tobytes() for suffix, value in (
        ('.png', array.astype(np.uint16) * 60), ('.tif', array.astype(np.uint16)), ('.tif', array / np.float32(60)),
        ('.png', array[..., 0]), ('.tif', array[..., 0].astype(np.float32)), ('.tif', array.astype(np.float64)))]
    load = LoadImage()
    resize = Resizing(dict(type='Resize', scale=(64, 64), keep_ratio=True), skip=False)

    def work(content):
        Path('x.png').write_bytes(content)
        image = resize(load(dict(img_path='x.png')))['img']
        assert image.dtype == np.uint8 and image.ndim == 3

    fuzz_bytes(work, seeds, watch, number)


def checkpoints(watch, number):
    from mmltm.models.checkpoints import check_file, compare, dataset_meta, read_checkpoint, state_dict
    content = dict(
        meta=dict(dataset_meta=dict(classes=('a', 'b')), iter=3), state_dict=torch.nn.Linear(2, 2).state_dict(),
        optimizer=dict(state={0: dict(step=torch.tensor(1.))}),
        message_hub=dict(loss=HistoryBuffer([1.], [1]), lr=np.float32(1)))
    seeds = []
    for fmt, options in ((0, {}), (0, dict(_use_new_zipfile_serialization=False))):
        buffer = io.BytesIO()
        torch.save(content, buffer, **options)
        seeds.append(bytes([fmt]) + buffer.getvalue())
    records = zipfile.ZipFile(io.BytesIO(seeds[0][1:]))
    names = {name: records.read(name) for name in records.namelist()}
    pickled = next(name for name in names if name.endswith('data.pkl'))
    seeds.append(b'\1' + names[pickled])
    mmengine.dump(dict(scores=torch.ones(2), boxes=np.eye(2), n=np.float32(1), ids=slice(2)), 'x.pkl')
    seeds.append(b'\2' + Path('x.pkl').read_bytes())
    model = torch.nn.Linear(2, 2)
    atheris.instrument_func(torch._weights_only_unpickler.Unpickler.load)

    def work(data):
        kind, data = (data[0] % 3, data[1:]) if data else (0, data)
        if kind == 2:
            Path('x.pkl').write_bytes(data)
            try:
                mmengine.load('x.pkl')
            except UserError:
                raise
            except Exception:  # read in workers of others' data sets, who say it their own way
                return
            return
        if kind == 1:  # a whole archive around a mutated pickle
            with zipfile.ZipFile('x.pth', 'w') as file:
                for name, record in names.items():
                    file.writestr(name, data if name == pickled else record)
        else:
            Path('x.pth').write_bytes(data)
        check_file('checkpoint', 'x.pth')
        checkpoint = read_checkpoint('x.pth')
        dataset_meta(checkpoint)
        str(compare(model, state_dict(checkpoint)))

    fuzz_bytes(work, seeds, watch, number)


def coco():
    """Two images, two categories, three objects, with polygons and run lengths."""
    box = dict(image_id=1, category_id=1, iscrowd=0, area=4, bbox=[1, 1, 2, 2], segmentation=[[1, 1, 3, 1, 3, 3, 1, 3]])
    return dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=4, height=4) for i in (1, 2)],
        categories=[dict(id=1, name='a'), dict(id=2, name='b')],
        annotations=[dict(box, id=1), dict(box, id=2, category_id=2, image_id=2),
                     dict(box, id=3, iscrowd=1, segmentation=dict(size=[4, 4], counts=[0, 16]))])


def annotations(watch, number):
    from mmdet.datasets import CocoDataset
    from pycocotools.coco import COCO

    from mmltm.apis.coco_audit import audit, check_structure, read_json
    from mmltm.apis.coco_repair import repair
    from mmltm.apis.readers import mend_readers
    mend_readers('mmdet')

    def work(content):
        Path('x.json').write_text(json.dumps(content))
        loaded = read_json('x.json')
        check_structure('x.json', loaded)
        findings = audit(loaded)
        fatal = [finding for finding in findings if finding.check.fatal]
        str(findings), [str(finding) for finding in findings]
        if not fatal:  # then others can read it
            with contextlib.redirect_stdout(io.StringIO()):
                dataset = CocoDataset(ann_file='x.json', data_prefix=dict(img=''), metainfo=dict(classes=tuple(
                    category['name'] for category in loaded['categories'])), pipeline=[])
                for index in range(len(dataset)):
                    dataset.get_data_info(index)
                truth = COCO('x.json')
                for annotation in truth.anns.values():
                    if annotation.get('segmentation'):
                        truth.annToMask(annotation)
        list(repair(loaded))
        check_structure('x.json', loaded)
        left = [finding.name for finding in audit(loaded) if finding.check.fatal]
        assert set(left) <= {'no annotation can be used'}, f'not repaired: {left}'

    fuzz_structures(work, mutated(coco()), watch, number)


def configs(watch, number):
    from mmltm.apis.cli import add_common_arguments
    from mmltm.apis.config import load_config
    from mmltm.apis.preflight import check_config
    from mmltm.datasets.loading import guard_loading
    for folder in ('annotations', 'train', 'val', *(f'classes/{split}/{name}' for split in ('train', 'val')
                                                    for name in 'ab')):
        Path(folder).mkdir(parents=True)
        for i in (1, 2):
            cv2.imwrite(f'{folder}/{i}.jpg', np.zeros((4, 4, 3), np.uint8))
    Path('annotations/x.json').write_text(json.dumps(coco()))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                dict(type='Resize', scale=[64, 64], keep_ratio=True), dict(type='PackDetInputs')]

    def config(scope, model, **dataset):
        def loader(split, /, **place):
            return dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
                        dataset=dict(dataset, pipeline=pipeline, metainfo=dict(classes=['a', 'b']), **place))

        return dict(
            default_scope=scope, model=model, work_dir='runs', train_cfg=dict(by_epoch=True, max_epochs=2), val_cfg={},
            custom_hooks=[dict(type='EMAHook')], param_scheduler=[],
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
            **{f'{split}_dataloader': loader(split, **(dict(split=split) if scope == 'mmpretrain' else dict(
                data_prefix=dict(img=f'{split}/')))) for split in ('train', 'val')})

    detector = config(
        'mmdet', dict(
            type='MaskRCNN', backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', ratio=0.7),
            neck=dict(type='FPN', in_channels=[16, 32]),
            roi_head=dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2))),
        type='CocoDataset', data_root='.', ann_file='annotations/x.json')
    detector['val_evaluator'] = dict(type='CocoMetric', ann_file='annotations/x.json', metric=['bbox'])
    classifier = config(
        'mmpretrain', dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18), head=dict(num_classes=2)),
        type='ImageNet', data_root='classes')
    classifier.update(val_evaluator=dict(type='Accuracy'), data_preprocessor=dict(num_classes=2, mean=[1., 2., 3.]))
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    keys = st.sampled_from([
        'model.backbone.ratio', 'train_cfg.max_epochs', 'trian_cfg.max_epochs', 'model', 'custom_hooks.0', 'a.b', '',
        '.', 'custom_hooks.7.type', 'train_dataloader.dataset', 'model..x', 'work_dir']) | st.text(max_size=8)
    values = st.sampled_from([
        '1', '0.5', '[1,2]', '(1,(2,3))', '[', '"x', 'None', '{}', "dict(type='A')", ',', '=']) | st.text(max_size=5)
    option = st.builds(lambda key, value: f'{key}={value}', keys, values)
    content = st.tuples(st.sampled_from([detector, classifier]).flatmap(mutated), st.lists(option, max_size=2))

    def work(content):
        cfg, options = content
        Path('x.json').write_text(json.dumps(cfg))
        arguments = ['--cfg-options', *options] if options else []
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                options = parser.parse_args(arguments).cfg_options
        except SystemExit:  # a usage error
            return
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            cfg = load_config('x.json', options, needs=('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'))
            guard_loading(cfg)
            check_config(cfg, ('train', 'val'))

    fuzz_structures(work, content, watch, number)


KINDS = dict(images=images, checkpoints=checkpoints, annotations=annotations, configs=configs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('kind', choices=[*KINDS, 'all'])
    parser.add_argument('--inputs', type=int, default=25_000, metavar='N',
                        help='of each kind; default: %(default)s')
    parser.add_argument('--seed', type=int, default=1, metavar='N', help='default: %(default)s')
    parser.add_argument('--out', type=Path, default=Path('findings'), metavar='DIR', help='default: %(default)s')
    args = parser.parse_args()
    if args.kind == 'all':  # each in a process of its own, which libFuzzer ends
        options = ['--inputs', args.inputs, '--seed', args.seed, '--out', args.out]
        sys.exit(max(subprocess.run(list(map(str, [sys.executable, __file__, kind, *options]))).returncode != 0
                     for kind in KINDS))
    print(f'mmltm of {Path(mmltm.__file__).parent}', flush=True)
    watch = Watch(args.inputs, args.out.resolve() / args.kind)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir='/dev/shm' if os.path.isdir('/dev/shm') else None) as folder:
        os.chdir(folder)
        KINDS[args.kind](watch, args.seed)


if __name__ == '__main__':
    main()
