"""The page configs/README.md: every config, what it is, and what it costs where a result file has that."""

from pathlib import Path

import yaml

from .experiment import description
from .markdown import table

_INTRO = """# Configs

Written by tools/experiments/render.py from the configs' headers and results/: do not edit.

A header gives the command and the batch. Detectors and segmentors stand here, small ones in mini/, classifiers in a
folder for each data set; _base_/ holds what several build on. Names: `ltm_` for token merging (all else as in the twin
without it), `300e`, `1x`, `200e` or `160k` for a training of all weights, `finetune` for one of the masks alone. GMACs
are multiply-accumulates of one image in 10^9.
"""


def config_index(root: Path, metafiles: dict[str, str]) -> str:
    """Content of the page.

    Args:
        root (Path): The repository.
        metafiles (dict[str, str]): From :func:`~harness.metafiles.metafiles`.
    """
    models = [model for text in metafiles.values() for model in yaml.safe_load(text).get('Models', [])]
    folders: dict[Path, list[dict]] = {}
    for model in sorted(models, key=lambda model: (model['Config'].count('/'), model['Config'])):
        folders.setdefault(Path(model['Config']).parent, []).append(model)
    header = ('config', 'what it is', 'data', 'pixels', 'parameters, M', 'GMACs')
    return _INTRO + ''.join(f'\n## {folder}/\n\n{table(header, [_row(root, model) for model in rows])}\n'
                            for folder, rows in folders.items())


def _row(root: Path, model: dict) -> list[str | None]:
    path, known = Path(model['Config']), model['Metadata']
    title = description(root / path).splitlines()[0].removesuffix('.')
    costs = [f'{known[key] / scale:.{digits}f}' if key in known else None
             for key, scale, digits in (('Parameters', 1e6, 2), ('FLOPs', 1e9, 3))]
    link = f'[{path.stem}]({path.relative_to("configs")})'
    return [link, title, known['Training Data'], known.get('Input Size'), *costs]
