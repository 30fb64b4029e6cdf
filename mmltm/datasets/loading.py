"""Loading of images that may be corrupt, deep or thin, and counters that workers of a data loader share with all."""

import functools
import logging
import math
import os.path as osp
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from mmltm.errors import UserError, summary
from mmltm.registry import TRANSFORMS

#: A picture with a longer side than so many times the shorter one is of no use, and huge once its short side is scaled.
MAX_ASPECT = 1000
# mmcv's names for how to decode; these leave 8-bit images as they are, and do not cut the others down to 8 bits.
_FLAGS = {'color': cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR, 'grayscale': cv2.IMREAD_ANYDEPTH}
_FLAGS |= {f'{name}_ignore_orientation': flag | cv2.IMREAD_IGNORE_ORIENTATION for name, flag in _FLAGS.items()}
# Far above any number of workers; more would share slots, which is harmless but for lost updates.
_SLOTS = 1024


class SkipCounter:
    """Counts events in any worker process, forked or spawned; the sum is read in the main process.

    Every worker adds to a slot of its own in shared memory, so there is nothing to lock.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(_SLOTS, dtype=torch.int64).share_memory_()

    def add(self) -> None:
        """Counts one event of this process."""
        worker = get_worker_info()
        self._counts[worker.id % _SLOTS if worker else 0] += 1

    def total(self) -> int:
        """Number of events so far, over all workers."""
        return int(self._counts.sum())

    def __deepcopy__(self, memo: dict) -> 'SkipCounter':
        return self  # a copied data set still counts here


@functools.cache
def skip_counter() -> SkipCounter:
    """The counter of this process and of its workers; a spawned one has it in the pickled transform, not from here."""
    return SkipCounter()


@functools.cache
def _deep_counter() -> SkipCounter:  # of images that were scaled
    return SkipCounter()


def to_8_bits(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Scales an image of any type to [0, 255] in uint8; also returns what became 255.

    Integers by the smallest of 8, 10, 12, 14 and 16 bits that hold the largest value, or by it: cameras write 12 bits
    into 16. Floats by 1, or by the power of two above their largest value. What is negative or no number becomes 0.
    """
    if image.dtype.kind == 'f':
        image = np.nan_to_num(image, posinf=0, neginf=0)
    peak = float(image.max())
    if image.dtype.kind == 'f':  # a tenth above 1 is rounding, as of logarithmic formats
        white = 1. if peak <= 1.1 else 2. ** min(127, math.ceil(math.log2(peak / 1.1)))
    else:
        white = next((2. ** bits - 1 for bits in (8, 10, 12, 14, 16) if peak < 2**bits), peak)
    scaled = np.clip(image if image.dtype.kind == 'f' else image.astype(np.float32), 0, white) * np.float32(255 / white)
    return np.rint(scaled, out=scaled).astype(np.uint8), white


def _check_png(path: str) -> None:
    """A UserError if a part of a local PNG says that it reaches beyond the file: OpenCV would make room for it."""
    if not osp.isfile(path):
        return
    size, place, kind = osp.getsize(path), 8, b''
    with open(path, 'rb') as file:
        png = file.read(8) == b'\x89PNG\r\n\x1a\n'
        while png and kind != b'IEND' and place < size:
            file.seek(place)
            place, kind = place + 12 + int.from_bytes(file.read(4), 'big'), file.read(4)
    if png and place > size:
        raise UserError('it is cut short')


def _warn(text: str) -> None:
    # mmengine passes on only errors from ranks other than the first.
    print_log(text, logger='current', level=logging.WARNING if is_main_process() else logging.ERROR)


_named: set[str] = set()


def _skip(counter: SkipCounter, path: str, reason: str) -> None:
    """Counts an image that is left out, and names it once per worker; :class:`SkippedImagesHook` logs the count."""
    counter.add()
    if path not in _named:
        _named.add(path)
        _warn(f'Skipped image {path}, which cannot be used ({reason}); another takes its place.')


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, which scales images of more than 8 bits by :func:`to_8_bits`, with one warning.

    OpenCV would take the upper 8 of 16 bits, where 12-bit images are black. Where images are asked for 'unchanged', or
    by another backend, they stay as they are. A UserError names a file that cannot be used.
    """

    color_type: Any
    to_float32: bool

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        flag = _FLAGS.get(self.color_type) if self.imdecode_backend == 'cv2' else None
        self._scales, self._colors = flag is not None, self.color_type.startswith('color')
        self._float, self.to_float32 = self.to_float32, False  # a float stands for a deep image until it is scaled
        self.color_type = self.color_type if flag is None else flag
        self._deep = _deep_counter()

    def transform(self, results: dict) -> dict | None:
        """Loads ``results['img_path']``."""
        path = results['img_path']
        try:
            _check_png(path)
            loaded = super().transform(results)
        except Exception as error:  # storage and decoding backends each have their own
            raise UserError(f'cannot decode image {path} ({summary(error)}): replace the file or take it off the '
                            'annotations') from error
        if loaded is None:
            return None
        image = loaded['img']
        if self._scales and image.dtype != np.uint8:
            kind = image.dtype
            image, white = to_8_bits(image)
            if not self._deep.total():
                _warn(f'Image {path} is of {kind}, not of 8 bits: {white:g} became 255. Others may be scaled as well.')
            self._deep.add()
        if self._scales and self._colors and image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        height, width = image.shape[:2]
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise UserError(f'image {path} of {width} x {height} pixels would be less than a pixel wide once resized: '
                            'take it off the annotations')
        loaded['img'] = image.astype(np.float32) if self._float else image
        return loaded


@TRANSFORMS.register_module()
class LoadImageOrSkip(LoadImage):
    """:class:`LoadImage` for training, which leaves out images that cannot be used.

    It returns None for such an image, whereupon the dataset takes another sample at random.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._counter = skip_counter()

    def transform(self, results: dict) -> dict | None:
        """Loads ``results['img_path']``; returns None if that fails."""
        path, reason = results['img_path'], 'ignored as empty'
        try:
            loaded = super().transform(results)
        except UserError as error:
            loaded, reason = None, str(error)
        if loaded is None:
            _skip(self._counter, path, reason)
        return loaded


@TRANSFORMS.register_module()
class Resizing(BaseTransform):
    """A transform such as ``dict(type='Resize', ...)``, where images may become less than a pixel wide.

    With ``skip`` it returns None for such an image, as :class:`LoadImageOrSkip` does, else a UserError names it.
    """

    def __init__(self, transform: dict, skip: bool) -> None:
        super().__init__()
        self._transform = TRANSFORMS.build(transform)
        self._counter = skip_counter() if skip else None

    def transform(self, results: dict) -> dict | None:
        """Resizes ``results['img']``."""
        try:
            return self._transform(results)
        except cv2.error as error:
            (height, width), path = results['img'].shape[:2], results.get('img_path', '')
            reason = f'{width} x {height} pixels, too thin or too large to be resized: {summary(error)}'
            if self._counter is None:
                raise UserError(f'image {path} is of {reason}') from error
            _skip(self._counter, path, reason)
            return None


def guard_loading(cfg: Config) -> None:
    """Lets training leave out images that cannot be used, tests name them, and both scale deep ones, in place.

    Puts the transforms above in place of ``LoadImageFromFile`` and around those that resize, in data sets, their
    wrappers and the hooks that switch pipelines, and adds the hook that logs how many were left out.
    """
    def replace_in(value: Any, skip: bool) -> None:
        if isinstance(value, dict):
            kind = str(value.get('type'))
            if kind in ('LoadImageFromFile', 'mmcv.LoadImageFromFile') or value.get('type') is LoadImageFromFile:
                value['type'] = 'mmltm.LoadImageOrSkip' if skip else 'mmltm.LoadImage'
            elif 'Resiz' in kind and not kind.endswith('Hook'):
                if kind != 'mmltm.Resizing':
                    transform = dict(value)
                    value.clear()
                    value.update(type='mmltm.Resizing', transform=transform, skip=skip)
                return
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for item in value:
                replace_in(item, skip)

    hooks = cfg.get('custom_hooks') or []
    replace_in([cfg.get('train_dataloader'), hooks], True)
    replace_in([cfg.get('val_dataloader'), cfg.get('test_dataloader')], False)
    if not any(hook.get('type') == 'mmltm.SkippedImagesHook' for hook in hooks):
        cfg.custom_hooks = [*hooks, dict(type='mmltm.SkippedImagesHook')]
