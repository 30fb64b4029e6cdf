"""What tables and plots call the metrics of cells, and which of them they are about."""

from collections.abc import Container

#: Heading and decimals of metrics by their name, in order of preference: of mmpretrain, of mmdet.
TITLES = {
    'accuracy/top1': ('top-1, %', 2),
    'coco/segm_mAP': ('mask AP', 3),
    'coco/bbox_mAP': ('box AP', 3),
    'coco/segm_mAP_50': ('mask AP50', 3),
    'coco/bbox_mAP_50': ('box AP50', 3),
}


def main_metric(found: Container[str], wanted: str | None = None) -> str | None:
    """The metric that is asked for, or else the first of :data:`TITLES` that a cell has."""
    return wanted or next((name for name in TITLES if name in found), None)


def metric_title(name: str) -> str:
    """Heading of a column: the last part of the name for metrics that are not known."""
    return TITLES[name][0] if name in TITLES else name.rpartition('/')[2]


def metric_digits(name: str | None) -> int:
    """Decimals to be shown."""
    return TITLES[name][1] if name in TITLES else 4
