"""IB loss, IB bound and mask step by layer and epoch, from the log of a training with IBStatisticsHook."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

from rich.console import Console

from mmltm.apis.cli import make_parser, make_table
from mmltm.errors import UserError, run
from mmltm.ib.report import BottleneckReport
from mmltm.visualization.figures import new_figure
from harness.ib_curves import TITLES, depth_colors, plot_over_layers, position
from harness.training_log import read_scalars

EXAMPLES = """examples:
  python tools/analysis_tools/plot_ib.py work_dirs/ltm_efficientvit_b0_imagenette128 --out ib.png

Values are means over batches of what one batch estimates; those of a whole data set come from mmltm.IBMetric.
"""

KEYS = ('ib_loss', 'ib_bound', 'mask_step')


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('work_dir', help='work dir of the training, all of whose runs are joined')
    parser.add_argument('--out', help='picture to write; default: WORK_DIR/ib.png')
    return parser.parse_args()


def read_log(work_dir):
    """Values by quantity, layer and step, of all runs in a work dir; a resumed run overwrites what it repeats."""
    scalars = read_scalars(work_dir)
    if not scalars:
        raise UserError(f'{work_dir} holds no */vis_data/scalars.json: not the work dir of a training')
    values = {key: {} for key in BottleneckReport.keys}
    for name, series in scalars.items():
        key, _, layer = name.partition('/')
        if key in values and layer:
            values[key][layer] = {step: value for step, (_, value) in series.items()}
    if not values['ib_loss']:
        raise UserError(f'no IB values in the logs of {work_dir}: they need IBStatisticsHook and three epochs at '
                        'least')
    return values


def draw(values, path):
    """One panel a quantity, over the epochs that have values; the deeper a layer, the darker its line."""
    figure = new_figure(5 * len(KEYS), 7.5)
    axes = figure.subplots(2, len(KEYS))
    layers = list(values['ib_loss'])
    for (upper, lower), key in zip(axes.T, KEYS):
        for layer, color in zip(layers, depth_colors(len(layers))):
            series = values[key][layer]
            upper.plot(range(1, len(series) + 1), [series[step] for step in sorted(series)], '.-', color=color,
                       label=layer.removeprefix('backbone.'))
        upper.set(xlabel='epoch with statistics', ylabel=TITLES[key])
        steps = sorted(values[key][layers[0]])
        curves = {label: {position(layer): values[key][layer][step] for layer in layers}
                  for label, step in (('first epoch', steps[0]), ('last epoch', steps[-1]))}
        plot_over_layers(lower, curves, key, [dict(linestyle='--'), dict()])
    axes[0, 0].legend(fontsize='small')
    axes[1, 0].legend(fontsize='small')
    figure.savefig(path)


def show(values):
    """Table of the first and the last epoch."""
    table = make_table('', ('layer', *(f'{TITLES[key]}: first, last' for key in KEYS)))
    for layer in values['ib_loss']:
        ends = [[values[key][layer][step] for step in (min(values[key][layer]), max(values[key][layer]))]
                for key in KEYS]
        table.add_row(layer, *(f'{first:.4f}, {last:.4f}' for first, last in ends))
    Console(width=140).print(table)


def main():
    args = parse_args()
    values = read_log(args.work_dir)
    out = args.out or str(Path(args.work_dir) / 'ib.png')
    draw(values, out)
    show(values)
    print(f'Picture: {out}')


if __name__ == '__main__':
    run(main)
