"""Results of cells as JSON files, the only source of tables and plots.

A folder of results, ``OUT_DIR``, holds::

    experiment.json         where tools/experiments/run.py has filled it: title, metric, claims and command
    cells/<key>.json        one file a cell: a model, a merger, a ratio, a number of epochs, a seed
    latency/<config>.json   one interleaved run over all models that the cells of a config have led to
    work_dirs/              logs and checkpoints of trainings, which no table needs

No file names a path of the machine. A key that does not apply is null; cells that have failed or are impossible have
no keys between ``digest`` and ``setting`` in the following list. Schema 1 of a **cell**::

    schema       1
    kind         "cell"
    key          str, the file's name without suffix
    status       "done", "failed", or "impossible" (the backbone cannot use the merger)
    error        null, or why there is no result, in one line
    label        str, the method's name in tables: "vanilla", "LTM", or what an ablation calls itself
    config       str, file name of the config without suffix
    model        str, type and arch of the backbone: "LTMMobileViT xx_small"
    merger       dict, config of the merger with all that has been set, or null (vanilla)
    ratio        float, share of tokens that a block keeps, or null; SoftMerging: 1 / p
    epochs       int, of training; 0 is off the shelf
    tuned        "masks" (all else frozen), "all", or null (not trained)
    seed         int
    overrides    dict from dotted key of the config to value
    hooks        list of dicts, hooks beyond the config's
    checkpoint   str, first 12 hexadecimal digits of the SHA-256 of the file that the cell starts from, or null
    digest       dict(model, test, training) of short hashes: equal ones stand for equal settings
    metrics      dict, of the config's test evaluator: {"accuracy/top1": 83.2} or {"coco/bbox_mAP": 0.3, ...}
    images       int, that were tested
    correct      str of "0" and "1", one an image in the order of the data set; null for detectors
    gmacs        float, 1e9 multiply-accumulates an image, mean over some test images
    params       int, of the model in evaluation
    learnt       int, of these the ones that the training has changed; 0 off the shelf
    peak_memory  dict(bytes, batch_size, kind), of a forward pass, beyond weights and input: kind is "tensors" (on a
                 CPU, without what allocators keep) or "cuda_max_memory_allocated"
    ib           dict(layers, restored), each from name of the layer to dict(ib_loss, ib_bound, c0, mi_input,
                 mi_label), in nats; or dict(error) where they cannot be measured; null where they were not asked
                 for. "layers" is about tokens as the mergers leave them, and lacks where these keep no grid;
                 "restored" about tokens brought back to the full grid, and lacks in older files
    history      list of dict(epoch, loss, ...), means of what has been logged in every epoch of training: losses,
                 learning rates, and "ib_loss/<layer>" etc. where IBStatisticsHook reports; [] off the shelf
    wall_time_s  float, of the call that finished the cell
    resumed      bool, whether that call went on with a training that had been interrupted
    setting      see :func:`~harness.result_file.env_info`

Schema 1 of a **latency** file::

    schema       1
    kind         "latency"
    config       str, as in cells
    rounds       int, counted rounds of the interleaved run
    batch_sizes  list of int
    shape        [height, width] of the input, in pixels
    setting      as in cells
    models       list of dict(cells, timings): cells, the keys of the cells whose models cost the same, the vanilla
                 one first; timings, a list of dict(batch_size, median_ms, quartiles_ms, ratio, ratio_quartiles), a
                 batch each; ratios are those to vanilla, medians and quartiles of the rounds' own ratios
"""

import json
from pathlib import Path

import pandas as pd

from .result_file import load_result

#: Where results of each kind lie in a folder of results.
FOLDERS = dict(cell='cells', latency='latency')
#: Columns of :func:`load_cells` that tell methods apart; cells that agree in them differ by their seed.
METHOD = ['config', 'label', 'ratio', 'epochs', 'variant']


def load_results(folder: str | Path, kind: str = 'cell') -> list[dict]:
    """All results of a kind in a folder of results, sorted by file name; none if there is no such folder.

    Args:
        folder (str or Path): ``OUT_DIR``.
        kind (str): 'cell' or 'latency'. Defaults to 'cell'.

    Raises:
        UserError: A file is no result.
    """
    return [load_result(path) for path in sorted((Path(folder) / FOLDERS[kind]).glob('*.json'))]


def by_method(cells: list[dict]) -> list[list[dict]]:
    """Cells of one method at one ratio after as many epochs together, which differ by their seed."""
    frame = pd.DataFrame([dict(
        {name: cell[name] for name in METHOD[:-1]}, cell=cell,
        variant=json.dumps([cell['overrides'], cell['hooks'], cell['merger']], sort_keys=True)) for cell in cells],
        columns=[*METHOD, 'cell'])
    return [list(group) for _, group in frame.groupby(METHOD, dropna=False, sort=False)['cell']]
