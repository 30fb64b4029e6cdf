"""Files that are damaged, hostile or merely unusual, and what one gets: checkpoints, pickles, images, outputs.

Every row of :data:`ROWS` is a test; ``broken`` and ``gets`` are what a table of them says.
"""

import functools
import http.server
import json
import logging
import os
import pickle
import re
import runpy
import threading
import tracemalloc
import types
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import Runner, load_checkpoint

from mmltm.apis.config import load_config
from mmltm.apis.image_sources import open_images
from mmltm.apis.outputs import set_out
from mmltm.apis.prediction_files import PredictionFile
from mmltm.datasets import LoadImage, LoadImageOrSkip, Resizing
from mmltm.datasets.loading import _named
from mmltm.models.checkpoints import check_file, check_tested, compare, dataset_meta, read_checkpoint, state_dict
from mmltm.models.convert import read_weights
from mmltm.models.pretrained import statistics_classes
from mmltm.visualization.picture_paths import PicturePaths


class Row(NamedTuple):
    id: str
    broken: str  # what is broken, in words
    gets: str  # what one gets, in words
    provoke: Callable[[Path], object]  # does it in an empty folder; its result, or error, as text
    expected: str  # pattern of that text


ROOT = Path(__file__).resolve().parents[2]
MARK = 'code_has_run'


class Code:
    """Unpickling it leaves a file in the working directory."""

    def __reduce__(self):
        return os.system, (f'touch {MARK}',)


class Attribute:
    """Unpickling it reaches for an attribute, from where any code is a few steps away."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


class Addresses:
    """Unpickled by NumPy it is an array of numbers that are taken for Python objects, at addresses of one's choice."""

    class Kind:
        def __reduce__(self):
            return np.dtype, ('f8', False, True), (3, '<', None, None, None, -1, -1, 63)

    def __reduce__(self):
        return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b'b'), (1, (1,), self.Kind(), False, [5])


class Storage:
    """Pickled bytes of a tensor, which PyTorch unpickles in turn."""

    def __init__(self, content):
        self.content = content

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.content,)


def saved(content, **kwargs):
    torch.save(content, 'x.pth', **kwargs)
    return 'x.pth'


def written(content, name='x.pth'):
    Path(name).write_bytes(content)
    return name


def pickled(content, name='x.pth', protocol=2):
    return written(pickle.dumps(content, protocol=protocol), name)


def hostile():
    return saved(dict(state_dict={}, meta=Code()))


def checkpoint(make, read=functools.partial(check_file, 'checkpoint')):
    """Reads the checkpoint that ``make`` has written."""
    return lambda folder: read(make())


def room_for(read):
    """What is read, and the room that it takes."""
    def provoke(folder):
        tracemalloc.start()
        result, room = read(), tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return f'{result}, {room >> 20} MB'
    return provoke


def archive(content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile('x.pth', 'w', compression) as file:
        file.writestr('x/data.pkl', content)
    return 'x.pth'


def cut():
    saved(dict(weight=torch.zeros(10**4)))
    return written(Path('x.pth').read_bytes()[:20_000])


def weights(**state):
    """How much of a layer a checkpoint fills."""
    return lambda folder: compare(torch.nn.Linear(2, 2), state_dict(read_checkpoint(saved(state))))


def resumed(path):
    class Model(BaseModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return inputs

    Runner(Model(), work_dir='runs', experiment_name=str(os.getcwd()), log_level='ERROR').resume(path)


def from_server(read):
    """Reads a hostile checkpoint from a web server."""
    def provoke(folder):
        hostile()
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        handler.func.log_message = lambda *args: None
        with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                return read(f'http://127.0.0.1:{server.server_address[1]}/x.pth')
            finally:
                server.shutdown()
    return provoke


def logs(folder):
    """A training's own logs, as numbers of numpy, under the names of NumPy 1."""
    path = saved(dict(message_hub=dict(loss=HistoryBuffer([1., 2.], [1, 1]), step=np.int64(3), lr=np.float32(0.5))))
    with zipfile.ZipFile(path) as file:
        records = {name: file.read(name).replace(b'numpy._core.', b'numpy.core.') for name in file.namelist()}
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in records.items():
            file.writestr(name, content)
    hub = read_checkpoint(path)['message_hub']
    return hub['loss'].mean(), hub['step'], hub['lr']


def image(array, name='x.png', transform=LoadImage, **kwargs):
    """What is loaded of an image: shape, type, first and last value; None if it is left out."""
    def provoke(folder):
        assert cv2.imwrite(name, array)
        loaded = transform(**kwargs)(dict(img_path=name))
        return loaded and (loaded['img'].shape, str(loaded['img'].dtype), *loaded['img'].flat[[0, -1]].tolist())
    return provoke


def deep(first, last, dtype=np.uint16):
    """A gray image with a smallest and a largest value."""
    array = np.full((4, 5), first, dtype)
    array[-1, -1] = last
    return array


def resizing(skip):
    """A strip of 1 x 300 in a pipeline that scales to 64 pixels."""
    def provoke(folder):
        resize = Resizing(dict(type='Resize', scale=(64, 64), keep_ratio=True), skip=skip)
        return resize(dict(img=np.zeros((300, 1, 3), np.uint8), img_path='strip.png', img_shape=(300, 1)))
    return provoke


def header(width, height):
    """A PNG that says it is of this size, and ends there."""
    chunk = b'IHDR' + width.to_bytes(4, 'big') + height.to_bytes(4, 'big') + bytes([8, 2, 0, 0, 0])
    return b'\x89PNG\r\n\x1a\n\0\0\0\r' + chunk + zlib.crc32(chunk).to_bytes(4, 'big')


@functools.cache
def infer_tool():
    return types.SimpleNamespace(**runpy.run_path(str(ROOT / 'tools' / 'infer.py')))


class Predictor:
    """Fails for bright images, alone or in a batch."""
    classes = ('a', 'b')

    def predict(self, images):
        if any(image.max() == 255 for image in images):
            raise RuntimeError('too bright')
        return [dict(label=int(image.max())) for image in images]

    def describe(self, sample):
        return sample

    def draw(self, image, sample, score_thr):
        return image


def infer(values, out='out'):
    """Runs the tool's loop over images of one value each; the file of predictions, and the pictures."""
    def provoke(folder):
        for name, value in values.items():
            path = folder / 'images' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(value, bytes):
                path.write_bytes(value)
            else:
                cv2.imwrite(str(path), np.full((4, 4), value, np.uint8) if isinstance(value, int) else value)
        tool, results = infer_tool(), folder / out
        results.mkdir(exist_ok=True)
        args, source = types.SimpleNamespace(batch_size=8, score_thr=0, device='cpu'), open_images('images', results)
        with tool.drawing(source, results) as save:
            tool.predict(Predictor(), source, PredictionFile(results, Predictor.classes), args, save)
        content = json.loads((results / 'predictions.json').read_text())
        labels = {name: prediction['label'] for name, prediction in content['images'].items()}
        pictures = sorted(path.relative_to(results / 'pictures').as_posix() for path in results.glob('pictures/**/*')
                          if path.is_file())
        return labels, content['skipped'], pictures
    return provoke


def interrupted(folder):
    """The file of predictions after each image, and after a disk that fills in the midst of one."""
    path = folder / 'predictions.json'
    results = PredictionFile(folder, ('a',))
    counts = []
    for index in range(3):
        results.add(index, f'{index}.png', (4, 4), dict(scores=np.zeros(index)))
        counts.append(len(json.loads(path.read_text())['images']))
    results.skip('9.png', 'broken')
    file = results._file
    raw, file._file = file._file, types.SimpleNamespace()
    for name in ('tell', 'seek', 'truncate'):
        setattr(file._file, name, getattr(raw, name))
    full = [True]
    file._file.write = lambda content: raw.write(content[:7] if full.pop() else content) if full else raw.write(content)
    with pytest.raises(OSError, match='No space left'):
        results.add(3, '3.png', (4, 4), dict(scores=[1] * 100))
    content = json.loads(path.read_text())
    return counts, list(content['images']), content['skipped']


REFUSED = r'holds more than tensors \(posix.system\), so reading it may run code'
ROWS = (
    Row('ckpt-text', 'a text given as a checkpoint', 'one line that quotes its beginning, before any setup',
        checkpoint(lambda: written('für später'.encode())), "cannot read checkpoint x.pth: it is a text, .*'für spä"),
    Row('ckpt-lfs', 'the pointer of a file in Git LFS', 'the same',
        checkpoint(lambda: written(b'version https://git-lfs.github.com/spec/v1\n')), "it is a text, .*'version https"),
    Row('ckpt-empty', 'an empty checkpoint', 'one line', checkpoint(lambda: written(b'')), 'x.pth: the file is empty'),
    Row('ckpt-cut', 'a checkpoint whose copying was cut short', 'one line',
        checkpoint(cut), 'cannot read checkpoint x.pth: it is cut short or damaged$'),
    Row('ckpt-image', 'a picture given as a checkpoint', 'one line',
        checkpoint(lambda: written(header(4, 4))), 'cannot read checkpoint x.pth: '),
    Row('ckpt-archive', 'an archive of something else', 'one line',
        checkpoint(lambda: archive(b'no pickle')), 'cannot read checkpoint x.pth: '),
    Row('ckpt-inflates', 'a small archive that inflates to gigabytes', 'one line, before anything is inflated',
        checkpoint(lambda: archive(bytes(10**7), zipfile.ZIP_DEFLATED)), 'its records would inflate to 10,000,000'),
    Row('ckpt-safetensors', 'a damaged file of safetensors', 'one line',
        checkpoint(lambda: written(b'\xff' * 100, 'x.safetensors')), 'cannot read checkpoint x.safetensors: '),
    Row('ckpt-list', 'a checkpoint that holds a list', 'one line',
        checkpoint(lambda: saved([1]), read_checkpoint), 'is not a checkpoint: it holds a list, no dict'),
    Row('ckpt-state', 'one whose state_dict is a tensor', 'one line',
        checkpoint(lambda: saved(dict(state_dict=torch.zeros(1))), read_checkpoint), 'state_dict is no dict of names'),
    Row('ckpt-keys', 'one whose weights are numbered, not named', 'one line',
        checkpoint(lambda: saved({0: torch.zeros(1)}), read_checkpoint), 'state_dict is no dict of names'),
    Row('ckpt-meta', 'one whose dataset_meta is a text', "classes are taken from the config's test set",
        lambda folder: dataset_meta(read_checkpoint(saved(dict(meta=dict(dataset_meta='cat'))))), r'^\{\}$'),
    Row('ckpt-classes', 'one whose classes are a number', 'they are passed over', lambda folder: dataset_meta(
        read_checkpoint(saved(dict(meta=dict(dataset_meta=dict(CLASSES=5)))))), r'^\{\}$'),
    Row('ckpt-nan', 'one of a training that has diverged', 'one line', lambda folder: check_tested(
        torch.nn.Linear(2, 2), 'x.pth', read_checkpoint(saved(dict(
            weight=torch.full((2, 2), np.nan), bias=torch.ones(2)))), logging.getLogger()),
        'checkpoint x.pth has NaN in 1 of 2 weights, first weight'),
    Row('ckpt-no-data', 'weights without data, sparse, quantised or complex ones', 'they count as missing',
        weights(weight=torch.zeros(2, 2, device='meta'), bias=torch.zeros(2, dtype=torch.complex64)),
        r'of 2 keys 2 missing in the checkpoint \(bias, weight\)'),
    Row('ckpt-logs', "a training's own logs, of numpy and mmengine", 'they are read, by the names allowed',
        logs, r'1\.5.*3.*0\.5'),
    Row('code-zip', 'code in a checkpoint', 'it does not run; the file and the function are named, before any setup',
        checkpoint(hostile), REFUSED),
    Row('code-old', 'code in a checkpoint of the format before PyTorch 1.6', 'the same',
        checkpoint(lambda: saved(Code(), _use_new_zipfile_serialization=False)), REFUSED),
    Row('code-pickle', 'code in a plain pickle', 'the same', checkpoint(lambda: pickled(Code())), REFUSED),
    Row('code-pickle-4', 'code in a pickle of a newer protocol', 'one line; it does not run',
        checkpoint(lambda: pickled(Code(), protocol=4)), 'cannot read checkpoint x.pth: '),
    Row('code-getattr', 'a checkpoint that reaches for attributes', 'named and refused, though mmengine allows it',
        checkpoint(lambda: saved(Attribute())), r'more than tensors \(builtins.getattr\)'),
    Row('code-read', 'code in a checkpoint to test', 'named and refused',
        checkpoint(hostile, read_checkpoint), REFUSED),
    Row('code-convert', 'code in weights to convert', 'named and refused', checkpoint(hostile, read_weights), REFUSED),
    Row('code-pretrained', 'code in `pretrained` of a backbone', 'named and refused',
        checkpoint(hostile, statistics_classes), REFUSED),
    Row('code-load-from', 'code in `load_from`, by mmengine itself', 'named and refused',
        checkpoint(hostile, lambda path: load_checkpoint(torch.nn.Linear(2, 2), path)), REFUSED),
    Row('code-init-cfg', 'code in `init_cfg=dict(type="Pretrained")`, by mmengine itself', 'named and refused',
        checkpoint(hostile, lambda path: BaseModule(dict(type='Pretrained', checkpoint=path)).init_weights()), REFUSED),
    Row('code-resume', 'code in a checkpoint to resume from, by mmengine itself', 'named and refused',
        checkpoint(hostile, resumed), REFUSED),
    Row('code-url', 'code in a checkpoint on a web server', 'named and refused', from_server(read_checkpoint), REFUSED),
    Row('code-results', 'code in pickled results or proposals', 'named and refused',
        checkpoint(lambda: pickled(Code(), 'x.pkl'), mmengine.load), r'more than data \(posix.system\)'),
    Row('code-tensor', 'code in a pickled tensor', 'named and refused',
        checkpoint(lambda: pickled(Storage(Path(hostile()).read_bytes()), 'x.pkl'), mmengine.load), REFUSED),
    Row('code-yaml', 'code in a config in YAML', 'one line; it does not run', checkpoint(
        lambda: written(b"a: !!python/object/apply:os.system ['touch code_has_run']", 'x.yml'), load_config),
        'cannot read config x.yml: ConstructorError: could not determine a constructor'),
    Row('pickle-data', 'pickled results without code', 'they are read', checkpoint(
        lambda: pickled([dict(a=torch.ones(1), b=np.zeros(1), c=np.float32(2))], 'x.pkl'), mmengine.load),
        r"'a': tensor\(\[1.\]\), 'b': array\(\[0.\]\), 'c': np.float32\(2.0\)"),
    Row('ckpt-addresses', 'an array, the type of which says that its numbers are addresses of objects', 'refused',
        checkpoint(lambda: saved(dict(meta=Addresses()))), 'cannot read checkpoint x.pth: TypeError'),
    Row('pickle-arrays', 'arrays of other byte order, in columns, of text, of objects', 'they are read',
        lambda folder: [(array.dtype.str, array.flags.f_contiguous, array.tolist()) for array in mmengine.load(pickled(
            [np.array([1.5, 2], '>f8'), np.array([[1, 2], [3, 4]], np.int16, order='F'), np.array(['a', 'bc']),
             np.array([{}, np.float32(3)], object)], 'x.pkl'))],
        re.escape("[('>f8', True, [1.5, 2.0]), ('<i2', True, [[1, 2], [3, 4]]), ('<U2', True, ['a', 'bc']), "
                  "('|O', True, [{}, np.float32(3.0)])]")),
    Row('pickle-room', 'a pickle of ten bytes that claims gigabytes', 'it is read; no room is made for it', room_for(
        lambda: mmengine.load(written(b'\x80\x02]r\0\0\0\1.', 'x.pkl'))), r'^\[\], 0 MB'),
    Row('image-12-bit', 'an image of 12 bits in 16, black today', 'scaled by 4095, with one warning',
        image(deep(0, 4000)), r"\(4, 5, 3\), 'uint8', 0, 249"),
    Row('image-10-bit', 'an image of 10 bits in 16', 'scaled by 1023', image(deep(512, 1023)), "'uint8', 128, 255"),
    Row('image-16-bit', 'an image of 16 bits', 'scaled by 65535', image(deep(257, 65535)), "'uint8', 1, 255"),
    Row('image-8-in-16', 'an image of 8 bits in 16', 'values as they are', image(deep(3, 200)), "'uint8', 3, 200"),
    Row('image-color', 'a colour image of 12 bits', 'scaled, its channels together',
        image(np.full((2, 2, 3), (0, 2048, 4095), np.uint16)), r"\(2, 2, 3\), 'uint8', 0, 255"),
    Row('image-float', 'floats from 0 to 1', 'scaled by 1',
        image(deep(0, 1, np.float32), 'x.tif'), r"\(4, 5, 3\), 'uint8', 0, 255"),
    Row('image-float-255', 'floats from 0 to 255', 'scaled by 256', image(deep(64, 255, np.float32), 'x.tif'),
        "'uint8', 64, 254"),
    Row('image-nan', 'floats with negative values and no numbers', 'both become 0',
        image(deep(np.nan, -3, np.float32), 'x.tif'), "'uint8', 0, 0"),
    Row('image-huge', 'floats as large as they can be', 'scaled, without overflow',
        image(deep(-3e38, 3e38, np.float32), 'x.tif'), "'uint8', 0, 255"),
    Row('image-32-bit', 'integers of 32 bits, unreadable today', 'scaled by their largest value',
        image(deep(0, 10**6, np.int32), 'x.tif'), "'uint8', 0, 255"),
    Row('image-gray', 'a deep image asked for in gray, as float', 'scaled, gray, float',
        image(deep(0, 4095), color_type='grayscale', to_float32=True), r"\(4, 5\), 'float32', 0.0, 255.0"),
    Row('image-train', 'an image of 12 bits in training', 'scaled',
        image(deep(0, 4000), transform=LoadImageOrSkip), '0, 249'),
    Row('image-thin', 'an image of 1 x 2000 pixels', 'named; inference skips it',
        image(np.zeros((2000, 1), np.uint8)), 'image x.png of 1 x 2000 pixels would be less than a pixel wide'),
    Row('image-thin-train', 'the same in training', 'named in a warning; another image takes its place',
        image(np.zeros((1, 2000), np.uint8), transform=LoadImageOrSkip), '^None$'),
    Row('image-resize', 'a strip that resizing makes thinner than a pixel, in a test', 'one line that names it',
        resizing(skip=False), 'image strip.png is of 1 x 300 pixels, too thin or too large to be resized'),
    Row('image-resize-train', 'the same in training', 'another image takes its place', resizing(skip=True), '^None$'),
    Row('image-none', 'a text as an image', 'named; inference skips it, training replaces it',
        lambda folder: LoadImage()(dict(img_path=written(b'no image', 'x.jpg'))), 'cannot decode image x.jpg '),
    Row('image-bomb', 'an image that claims 100,000 x 100,000 pixels', 'the same', lambda folder: LoadImage()(
        dict(img_path=written(header(100_000, 100_000), 'x.png'))), 'cannot decode image x.png '),
    Row('image-long-part', 'a small image, a part of which claims gigabytes', 'the same; no room is made for it',
        lambda folder: LoadImage()(dict(img_path=written(header(5, 4) + b'\x7f\xff\xff\xffIDAT', 'x.png'))),
        'cannot decode image x.png .it is cut short.'),
    Row('infer-one-bad', 'a batch in which the model fails for one image', 'that is skipped, the others are predicted',
        infer({'a.png': 1, 'b.png': 255, 'c.png': 3, 'd.png': b'no image'}),
        r"\{'a.png': 1, 'c.png': 3\}, \['d.png', 'b.png'\], \['a.png', 'c.png'\]"),
    Row('infer-same-names', 'equal names in sub-folders', 'each has its prediction and its picture',
        infer({'a/x.png': 1, 'b/x.png': 2}), r"\{'a/x.png': 1, 'b/x.png': 2\}, \[\], \['a/x.png', 'b/x.png'\]"),
    Row('infer-own-output', 'results within the folder of images', 'pictures are not taken for images',
        infer({'a.png': 1, 'out/pictures/b.png': 2}, out='images/out'), r"\{'a.png': 1\}, \[\]"),
    Row('infer-formats', 'pictures in a format that cannot be written in colour', 'written as PNG, overwriting none',
        infer({'x.pgm': 1, 'x.pgm.png': 2}), r"\['_x.pgm.png', 'x.pgm.png'\]"),
    Row('infer-killed', 'inference that is killed, or a disk that fills', 'the file is whole, with all results so far',
        interrupted, r"\[1, 2, 3\], \['0.png', '1.png', '2.png'\], \['9.png'\]"),
    Row('show-dir', 'equal names in the folders of a test set', '`--show-dir` keeps sub-folders', lambda folder: [
        PicturePaths('out', ['/d/a/x.jpg', '/d/b/x.jpg'])(path) for path in ('/d/a/x.jpg', '/d/b/x.jpg')],
        r"\['out/a/x.jpg', 'out/b/x.jpg'\]"),
    Row('out-name', '`--out` of an unknown format', 'one line', lambda folder: set_out(Config(dict(
        default_scope='mmdet', test_evaluator=[])), 'foo.txt'), '--out foo.txt must end in .json or .pkl'),
)


@pytest.mark.parametrize('row', ROWS, ids=[row.id for row in ROWS])
def test_row(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))  # for downloads
    _named.clear()
    try:
        result = str(row.provoke(tmp_path))
    except ValueError as error:  # UserErrors alone: others end the test
        assert type(error).__name__ == 'UserError'
        result = str(error)
        assert '\n' not in result
    assert re.search(row.expected, result), result
    assert not list(tmp_path.rglob(MARK))
