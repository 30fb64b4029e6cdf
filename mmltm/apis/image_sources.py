"""Images to predict for, one after another: of files or of a video, of which no more than one is in memory."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmdet.apis.det_inferencer import IMG_EXTENSIONS

from mmltm.datasets import LoadImage
from mmltm.errors import UserError

VIDEO_EXTENSIONS = ('.avi', '.flv', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.ts', '.webm', '.wmv')
#: What a source yields: the name of an image, and (H, W, 3), uint8, BGR, or why there is no such image.
Named = tuple[str, np.ndarray | Exception]


class ImageFiles:
    """Image files, whose names are their paths below ``root``."""

    def __init__(self, paths: list[Path], root: Path) -> None:
        self.paths = paths
        self.names = [path.relative_to(root).as_posix() for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Named]:
        load = LoadImage()
        for path, name in zip(self.paths, self.names):
            try:
                yield name, load(dict(img_path=str(path)))['img']
            except Exception as error:  # storage and decoding backends each have their own
                yield name, error


class Video:
    """The frames of a video file, of which the first is named ``street.mp4#1``. It can be gone through once.

    Attributes:
        fps (float): Frames per second; 25 if the file does not say.
        size (tuple): Width and height.

    Raises:
        UserError: There is no frame that OpenCV can decode.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._capture = path, cv2.VideoCapture(str(path))
        there, self._frame = self._capture.read()
        if not there:
            raise UserError(f'video {path} holds no frame that OpenCV can decode: it is empty, damaged or cut short')
        self.fps: float = self._capture.get(cv2.CAP_PROP_FPS) or 25.
        self.size = self._frame.shape[1::-1]

    def __len__(self) -> int:
        """Number of frames by the file's header, which may be wrong; 0 if it does not say."""
        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Named]:
        number, there, frame = 0, True, self._frame
        while there:
            number += 1
            yield f'{self.path.name}#{number}', frame
            there, frame = self._capture.read()
        if number < len(self):
            yield f'{self.path.name}#{number + 1}-{len(self)}', UserError('the video ends before: it is cut short')


def open_images(name: str, out_dir: Path) -> ImageFiles | Video:
    """The image or video of that name, or the images that a pattern matches, or all in a folder and below it.

    They are sorted by path, without those in ``out_dir``. It is a UserError if there are none.
    """
    path, results = Path(name).expanduser(), out_dir.resolve()
    if path.is_file():
        return Video(path) if path.suffix.lower() in VIDEO_EXTENSIONS else ImageFiles([path], path.parent)
    pattern = not path.is_dir()
    if pattern and not glob.has_magic(name):
        raise UserError(f'image, video or folder {name} does not exist')
    files = map(Path, glob.glob(str(path), recursive=True)) if pattern else path.rglob('*')
    images = sorted({file for file in files if file.suffix.lower() in IMG_EXTENSIONS and file.is_file()
                     and results not in file.resolve().parents})  # '**' may find a file twice
    if not images:
        what = f'pattern {name} matches' if pattern else f'folder {name} holds'
        raise UserError(f'{what} no image ({", ".join(IMG_EXTENSIONS)})')
    return ImageFiles(images, Path(os.path.commonpath([image.parent for image in images])) if pattern else path)
