"""Where pictures of images go."""

import os.path as osp
from collections.abc import Sequence

_WRITABLE = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.tif', '.tiff', '.webp')


class PicturePaths:
    """A path below ``folder`` for the picture of each of ``images``, as theirs below the folder common to all.

    A name gains .png if OpenCV cannot write such a file in colour; no two images get the same path.
    """

    def __init__(self, folder: str, images: Sequence[str]) -> None:
        self._folder, self._source = folder, dict[str, str]()
        self._root = osp.commonpath([osp.dirname(osp.abspath(image)) for image in images])

    def __call__(self, image: str) -> str:
        name = osp.relpath(osp.abspath(image), self._root)
        if not name.lower().endswith(_WRITABLE):
            name += '.png'
        while self._source.setdefault(name, image) != image:
            name = osp.join(osp.dirname(name), f'_{osp.basename(name)}')
        return osp.join(self._folder, name)
