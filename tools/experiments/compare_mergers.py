#!/usr/bin/env python
"""Token mergers side by side on one model: accuracy, operations, latency, memory, information bottleneck."""

from pathlib import Path

from rich.console import Console

from harness.cell import grid
from harness.latency import measure_latency
from harness.report import NAME, write_report
from harness.run_cells import add_jobs_argument, positive, run_cells
from mmltm.apis.cli import add_cfg_options, make_parser
from mmltm.apis.config import load_config
from mmltm.errors import UserError, run
from mmltm.models import TOKEN_MERGERS

EXAMPLES = """examples:
  # all mergers off the shelf and, those that learn, after 1 and 5 epochs of masks-only training
  python tools/experiments/compare_mergers.py configs/imagenette/ltm_mobilevit_xxs_finetune_imagenette128.py \\
      --checkpoint work_dirs/mobilevit_xxs_imagenette128/epoch_30.pth --data-root data/imagenette128 \\
      --epochs 0 1 5 --ratios 0.7 0.5 --ib --out-dir work_dirs/comparison

  # from scratch, all weights learn, because this config has no MaskTuningHook
  python tools/experiments/compare_mergers.py configs/imagenette/ltm_mobilevit_xxs_imagenette128.py \\
      --data-root data/imagenette128 --mergers LTM ToMe AvgPool --ratios 0.7 --epochs 30 --seeds 0 1 2 \\
      --out-dir work_dirs/from_scratch

  # the tables and the plot once more, from the results that are there
  python tools/experiments/compare_mergers.py --report-only --out-dir work_dirs/comparison

A cell is one merger at one ratio after so many epochs with one seed; its result is DIR/cells/NAME.json. Results that
are there are kept, so a call can be interrupted, in the middle of a training too, and repeated with more mergers,
ratios or epochs. A cell that fails is shown with its error, and tried again by the next call. What a backbone cannot
do is shown as impossible. Latency is measured at the end, of all models of the call in one interleaved run, and takes
the place of that of earlier calls. Tables and plot: DIR/comparison.*
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', nargs='?', help='config whose backbone takes a merger; its schedule is used')
    parser.add_argument('--checkpoint', metavar='FILE', help='vanilla weights to start from; default: none, for '
                        'training from scratch')
    parser.add_argument('--data-root', metavar='DIR', help='folder that every dataset of the config shall read from')
    parser.add_argument('--out-dir', required=True, metavar='DIR', help='folder for results')
    parser.add_argument('--mergers', nargs='+', default=list(TOKEN_MERGERS.module_dict), metavar='TYPE',
                        help=f'default: all, {" ".join(TOKEN_MERGERS.module_dict)}')
    parser.add_argument('--ratios', nargs='+', type=float, default=[0.7, 0.5], metavar='R',
                        help='shares of tokens to keep; SoftMerging, whose windows have 2 or 4 tokens, stands there '
                        'for 0.5 and 0.25 whatever the ratios; default: 0.7 0.5')
    parser.add_argument('--epochs', nargs='+', type=int, default=[0], metavar='E',
                        help='epochs of training, each a training of its own; default: 0')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='SEED', help='default: 0')
    parser.add_argument('--batch-size', nargs='+', type=positive, default=[1, 16], metavar='B',
                        help='of latency; memory is measured at the largest; default: 1 16')
    parser.add_argument('--rounds', type=positive, default=20, help='counted rounds of latency; default: 20')
    parser.add_argument('--ib', action='store_true', help='measure IB loss and bound, in two more passes')
    parser.add_argument('--no-latency', action='store_true', help='leave latency out')
    parser.add_argument('--metric', help='what the table is about; default: top-1 accuracy, else mask or box AP')
    parser.add_argument('--overwrite', action='store_true', help='replace results of other settings')
    parser.add_argument('--report-only', action='store_true', help='write tables and plot, run nothing')
    add_cfg_options(parser)
    add_jobs_argument(parser)
    args = parser.parse_args()
    if not args.report_only and args.config is None:
        parser.error('give a config, or --report-only')
    return args


def measure(args, out_dir):
    """Run the cells that are missing, then time all."""
    cfg = load_config(args.config, args.cfg_options, needs=('model', 'test_dataloader'))
    cells = grid(cfg, args.config, args.checkpoint, args.mergers, args.ratios, args.epochs, args.seeds,
                 args.cfg_options)
    done = run_cells(cells, out_dir, args.data_root, max(args.batch_size), args.ib, args.overwrite, args.jobs)
    if done and not args.no_latency:
        measure_latency(done, args.batch_size, args.rounds)


def main():
    args = parse_args()
    console, out_dir = Console(), Path(args.out_dir)
    if not args.report_only:
        measure(args, out_dir)
    rows = write_report(out_dir, args.metric)
    console.print((out_dir / f'{NAME}.md').read_text(), markup=False, highlight=False, soft_wrap=True)
    console.print(f'Written: {NAME}.md, .csv and .png in {out_dir}', highlight=False)
    failed = rows.error.fillna('').str.startswith('failed').sum()
    if failed:
        raise UserError(f'{failed} of {len(rows)} rows have failed cells, see the table; a repeated call tries again')


if __name__ == '__main__':
    run(main)
