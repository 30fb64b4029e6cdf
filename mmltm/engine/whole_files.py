"""Files that no crash can spoil, and the newest checkpoint that is whole."""

import os
import os.path as osp
import re
import zipfile
from pathlib import Path
from tempfile import TemporaryFile

from mmengine.fileio import LocalBackend, register_backend

from mmltm.errors import UserError


class WholeFileBackend(LocalBackend):
    """mmengine's local files, written under another name and renamed once they are on the disk.

    So a file has its old content or all of its new one, whatever happens meanwhile. It takes the place of mmengine's
    backend for local paths, for checkpoints of any runner as for dumped results. What cannot be written is a UserError.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        unfinished = f'{filepath}.unfinished'
        try:
            os.makedirs(osp.dirname(filepath) or '.', exist_ok=True)
            with open(unfinished, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, filepath)
        except BaseException as error:  # Ctrl-C, too
            if osp.isfile(unfinished):
                os.remove(unfinished)
            if not isinstance(error, OSError):
                raise
            raise UserError(f'cannot write {filepath} ({len(obj) / 1e6:.1f} MB): {error.strerror}; what was written '
                            'before is whole: make room, or choose another folder, and go on with --resume') from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


register_backend('local', WholeFileBackend, force=True, prefixes='')


def check_writable(what: str, folder: str, remedy: str) -> None:
    """Makes a folder where there is none; a UserError if nothing can be written to it."""
    try:
        os.makedirs(folder, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(b'0' * 4096)
    except OSError as error:
        raise UserError(f'cannot write to {what} {folder}: {error.strerror}; {remedy}') from error


def is_whole(path: str) -> bool:
    """Whether a checkpoint can be read to its end: by the checksums of its archive. A folder of shards counts as one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return osp.isdir(path)


def newest_whole_checkpoint(work_dir: str) -> tuple[str | None, list[str]]:
    """The checkpoint to go on from, and the newer ones that are damaged.

    That is the one which ``last_checkpoint`` names, else the furthest of its folder that is whole; None if there is
    none at all. A UserError if all are damaged.
    """
    note = Path(work_dir, 'last_checkpoint')
    last = note.read_text().strip() if note.is_file() else ''
    folder = osp.dirname(last) if osp.isdir(osp.dirname(last)) else work_dir
    steps = {str(path): int(match[1]) for path in Path(folder).glob('*.pth')
             if (match := re.fullmatch(r'(?:epoch|iter)_(\d+)', path.stem))}
    damaged: list[str] = []
    for path in dict.fromkeys([last] * bool(last) + sorted(steps, key=steps.__getitem__, reverse=True)):
        if is_whole(path):
            return path, damaged
        damaged.append(path)
    if damaged:
        raise UserError(f'cannot resume: {", ".join(damaged)} missing or damaged, and {folder} has no other '
                        'checkpoint')
    return None, []
