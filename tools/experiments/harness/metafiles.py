"""OpenMMLab's model index: model-index.yml and a metafile for each family, from the configs and the result files.

FLOPs are multiply-accumulates of one image, as in OpenMMLab's metafiles; they and parameters stand where a result
file has them. There are no weights to point at yet, so no model has ``Weights``; ``Metrics`` are null where none were
measured here. What the paper says of a model stands apart, under ``Reported By Paper``.
"""

import re
from pathlib import Path

import pandas as pd
import yaml

from .cell import VANILLA
from .costs import Paper
from .metrics import TOP1
from .names import FAMILIES, family
from .result_file import load_result
from .table import make_rows

_PAPER = dict(URL='https://arxiv.org/abs/2407.15219',
              Title='Efficient Visual Transformer by Learnable Token Merging')
_TASKS = dict(mask_rcnn=('Object Detection', 'Instance Segmentation'), ssdlite=('Object Detection', ),
              **dict.fromkeys(('upernet', 'deeplabv3', 'effvit_seg'), ('Semantic Segmentation', )))
_DATA = dict(ade20k='ADE20K', in1k='ImageNet-1k', imagenette128='Imagenette', custom='Custom', mini='Mini COCO')
_METRICS = {TOP1: 'Top 1 Accuracy', 'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}
_HEADER = '# Written by tools/experiments/render.py from configs/ and results/: do not edit.\n'


def metafiles(root: Path) -> dict[str, str]:
    """Content of the model index and of the families' metafiles, by path below the repository.

    Args:
        root (Path): The repository.
    """
    rows = macs_rows(root / 'results')
    paper = Paper(root / 'results' / 'paper.json')
    scores = [row for folder in sorted((root / 'results').iterdir()) if folder.is_dir()
              for row in make_rows(folder).to_dict('records')]
    models: dict[str, list[dict]] = {name: [] for name in FAMILIES.values()}
    for path in config_files(root / 'configs'):
        models.setdefault(family(path.stem), []).append(
            _model(path.stem, str(path.relative_to(root)), rows, scores, paper))
    files = {
        f'configs/metafile_{name.lower()}.yml': _HEADER + _dump(dict(Collections=[_collection(name)], Models=entries))
        for name, entries in models.items()}
    return {'model-index.yml': _HEADER + _dump(dict(Import=list(files))), **files}


def config_files(folder: Path) -> list[Path]:
    """Every config below a folder but those that only others build on, by name."""
    return sorted((path for path in folder.rglob('*.py') if '_base_' not in path.parts), key=lambda path: path.name)


def macs_rows(folder: Path) -> list[dict]:
    """Rows of whole networks, at their configs' own ratios, of all files of multiply-accumulates in a folder."""
    paths = (path for path in sorted(folder.glob('macs_*.json')) if not path.stem.endswith('_ratios'))
    results = map(load_result, paths)
    return [row for result in results if result['kind'] == 'macs' for row in result['rows']
            if row['scope'] == 'network']


def _dump(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=118, allow_unicode=True)


def _collection(name: str) -> dict:
    return dict(
        Name=f'LTM-{name}', Metadata={'Architecture': [name, 'Learnable Token Merging']}, Paper=_PAPER,
        README='README.md')


def _model(config: str, path: str, rows: list[dict], scores: list[dict], paper: Paper) -> dict:
    row = _cost(config, rows)
    metrics = _metrics(config, row and row['ratio'], scores)
    data = next((name for key, name in _DATA.items() if key in config), 'COCO')
    tasks = next((tasks for key, tasks in _TASKS.items() if config.startswith(key)), ('Image Classification', ))
    metadata = {'Training Data': data}
    if row is not None:
        metadata.update({'FLOPs': round(row['gmacs'] * 1e9), 'Parameters': round(row['parameters_m'] * 1e6),
                         'Input Size': '{} x {}'.format(*row['shape'])})
    model = {'Name': config, 'In Collection': f'LTM-{family(config)}', 'Config': path,
             'Metadata': metadata, 'Results': [dict(Task=task, Dataset=data, Metrics=metrics) for task in tasks]}
    reported = row and _reported(config, row, paper)
    if reported:
        model['Reported By Paper'] = reported
    return model


def _cost(config: str, rows: list[dict]) -> dict | None:
    """The row of a config's model, which may have been measured by the name of another config of the same model."""
    merges = 'ltm_' in config
    name = config if merges else re.sub(r'^(ssdlite_|mask_rcnn_|upernet_|deeplabv3_|effvit_seg_|)', r'\1ltm_', config)
    known = {row['config']: row for row in rows if (row['merger'] != VANILLA) == merges}
    names = (name, name.replace('_finetune_in1k', '_300e_in1k'), name.replace('_finetune_imagenette', '_imagenette'),
             name.replace('_3x', '_1x'))
    return next((known[name] for name in names if name in known), None)


def _metrics(config: str, ratio: float | None, scores: list[dict]) -> dict | None:
    """What the longest training of a config's LTM model, as the config has it, was measured to reach."""
    rows = [row for row in scores if row['config'] == config and row['label'] == 'LTM' and row['ratio'] == ratio
            and row['epochs'] and not row['overrides'] and pd.notna(row['value'])]
    if not rows:
        return None
    best = max(rows, key=lambda row: row['epochs'])
    return {_METRICS[best['metric']]: round(best['value'], 4), 'Epochs': best['epochs'], 'Seeds': best['seeds']}


def _reported(config: str, row: dict, paper: Paper) -> dict:
    found = {}
    for field, name in (('gmacs', 'GFLOPs'), ('macs_ratio', 'FLOPs, quotient to vanilla')):
        entry = paper.find(dict(row, config=config), field)
        if entry is not None:
            found[name] = dict(Value=entry[field], **({'Table': entry['table']} if entry['table'] else {}))
    return found
