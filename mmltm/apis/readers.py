"""What mmdet's and mmpretrain's readers of data sets make of incomplete or cluttered data, mended in place.

Both read at many places (datasets, metrics, other people's subclasses of them), all of which go through two functions.
"""

from pathlib import Path

from mmltm.apis.coco_repair import complete, fresh_ids


def mend_readers(scope: str) -> None:
    """Lets mmdet read files that lack ``iscrowd`` or ``area`` or count from 0; mmpretrain pass over hidden folders.

    In this process; ``scope`` is the config's ``default_scope``.
    """
    if scope == 'mmdet':
        from mmdet.datasets.api_wrappers import COCO
        if not hasattr(COCO.createIndex, 'mended'):
            COCO.createIndex = _completing(COCO.createIndex)
    elif scope == 'mmpretrain':
        from mmpretrain.datasets import custom
        if not hasattr(custom.find_folders, 'mended'):
            custom.find_folders = _without_hidden(custom.find_folders)


def class_folders(folder: str) -> list[str]:
    """The sub-folders that stand for classes, in the order of their labels: all but hidden ones."""
    return sorted(entry.name for entry in Path(folder).iterdir() if entry.is_dir() and not entry.name.startswith('.'))


def _completing(create_index):
    def create(self) -> None:
        self.dataset.setdefault('info', {})  # without which some versions read no results
        annotations = self.dataset.get('annotations', [])
        for annotation in annotations:
            if 'bbox' in annotation or 'segmentation' in annotation:  # neither captions nor panoptic segments
                complete(annotation)
        # pycocotools marks what is unmatched by 0, so an object of that id would never be found.
        ids = fresh_ids(annotations)
        for annotation in annotations:
            if annotation.get('id') == 0:
                annotation['id'] = next(ids)
        create_index(self)

    create.mended = True  # type: ignore[attr-defined]
    return create


def _without_hidden(find_folders):
    def find(root: str, *args, **kwargs):
        folders = [name for name in find_folders(root, *args, **kwargs)[0] if not name.startswith('.')]
        return folders, {name: label for label, name in enumerate(folders)}

    find.mended = True  # type: ignore[attr-defined]
    return find
