"""Scalars that mmengine has logged in a training."""

import json
from pathlib import Path

#: From the step of a value to the epoch that it belongs to, 0 where none was logged, and the value.
Series = dict[int, tuple[int, float]]


def read_scalars(work_dir: str | Path) -> dict[str, Series]:
    """All numbers of all runs in a work dir, by name; a resumed run overwrites what it repeats.

    They are in ``*/vis_data/scalars.json``, by mmengine's ``LocalVisBackend``.
    """
    scalars: dict[str, Series] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        epoch = 0
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            epoch = entry.get('epoch', epoch)
            for name, value in entry.items():
                if isinstance(value, (int, float)):
                    scalars.setdefault(name, {})[entry['step']] = epoch, value
    return scalars
