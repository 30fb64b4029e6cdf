"""A COCO folder that a tool makes: whole or not at all, and only once.

The folder keeps the recipe (the arguments) that made it. It is filled under a temporary name beside its
place, so a killed run leaves at worst a hidden folder beside it, never half a set, and the same recipe
finds a whole one done.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RECIPE_FILE = 'mini_coco.json'
SPLITS = ('train2017', 'val2017')
# Raise it whenever the same arguments would draw or choose something else.
FORMAT_VERSION = 2
JPEG_QUALITY = 95


class CocoFolderError(Exception):
    """What a user can put right, told in one line."""


def annotation_file(folder: Path, split: str) -> Path:
    """Where the COCO layout keeps the instance annotations of a split."""
    return folder / 'annotations' / f'instances_{split}.json'


def read_json(path: Path) -> dict:
    """Read a JSON file.

    Raises:
        CocoFolderError: If it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise CocoFolderError(f'{path} is not valid JSON: {error}') from error


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content), encoding='utf-8')


def must_make(out: Path, recipe: dict, force: bool) -> bool:
    """Whether a folder is to be made, that is, does not hold the set of this recipe yet.

    Args:
        out (Path): The folder.
        recipe (dict): Arguments that decide its content, fit for JSON; 'splits' lists the splits.
        force (bool): Make it even where another set of this tool is to be replaced.

    Raises:
        CocoFolderError: If it holds something else. Not even ``force`` replaces what this tool has not made.
    """
    if out.exists() and not out.is_dir():
        raise CocoFolderError(f'{out} is a file; choose another OUT')
    if not out.exists() or not any(out.iterdir()):
        return True
    if not (out / RECIPE_FILE).is_file():
        raise CocoFolderError(
            f'{out} holds something that this tool did not make; choose another OUT or empty it')
    if force:
        return True
    # Through JSON and back, so that tuples equal the lists they are stored as.
    if read_json(out / RECIPE_FILE) != json.loads(json.dumps(recipe)):
        raise CocoFolderError(
            f'{out} holds a set made with other arguments (see {RECIPE_FILE}); add --force to replace it')
    for split in recipe['splits']:
        annotations = annotation_file(out, split)
        if not annotations.is_file() or not all(
                (out / split / image['file_name']).is_file() for image in read_json(annotations)['images']):
            raise CocoFolderError(f'{out} has lost files of its {split} split; add --force to make it anew')
    return False


@contextmanager
def appear_when_complete(out: Path, recipe: dict) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes ``out`` at the end, and vanishes on any error.

    Args:
        out (Path): Folder to make; what it holds is replaced.
        recipe (dict): See :func:`must_make`; stored with the set.

    Yields:
        Path: The folder to fill, with an empty annotations/ in it.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}.') as temporary:
        folder = Path(temporary) / 'new'
        (folder / 'annotations').mkdir(parents=True)
        yield folder
        write_json(folder / RECIPE_FILE, recipe)
        if out.exists():
            out.rename(Path(temporary) / 'old')
        folder.rename(out)
