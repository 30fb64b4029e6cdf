"""Runs an experiment of this project: one command from images to the table of results."""

import subprocess
import sys
import textwrap
from pathlib import Path

from rich.console import Console

from harness.claims import claims_table
from harness.experiment import config_path, description, read_experiment, save_experiment
from harness.latency import measure_latency
from harness.report import NAME, write_report
from harness.run_cells import add_jobs_argument, run_cells
from mmltm.apis.cli import make_parser
from mmltm.errors import UserError, run

EXAMPLES = """examples:
  python tools/experiments/run.py --list
  python tools/experiments/run.py merging_that_matters --data-root data/imagenette128
  python tools/experiments/run.py detection_mini --data-root data/mini_coco
  python tools/experiments/render.py        # then: tables of README.md and results/README.md

An experiment is a file in tools/experiments/experiments/. The vanilla model that its cells start from is trained first,
into work_dirs/, unless its checkpoint is there or given; some experiments start from scratch. Results go to
results/EXPERIMENT/, a file a cell, and a call that was interrupted goes on where it was. With --jobs N, N cells run at
a time, each in a process of its own with its share of the threads; latency is measured alone, at the end.
"""

ROOT = Path(__file__).parents[2]
EXPERIMENTS = Path(__file__).parent / 'experiments'


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    known = sorted(path.stem for path in EXPERIMENTS.glob('*.py'))
    parser.add_argument('experiment', nargs='?', choices=known, metavar='EXPERIMENT', help=', '.join(known))
    parser.add_argument('--list', action='store_true', help='say what each experiment is about')
    parser.add_argument('--data-root', metavar='DIR', help='folder that every dataset shall read from')
    parser.add_argument('--checkpoint', metavar='FILE',
                        help='of the vanilla model; default: the last one in its work_dir')
    parser.add_argument('--out-dir', metavar='DIR', help='default: results/EXPERIMENT')
    parser.add_argument('--no-latency', action='store_true', help='leave latency out')
    add_jobs_argument(parser)
    args = parser.parse_args()
    if not (args.list or args.experiment):
        parser.error('name an experiment, or --list')
    return args


def vanilla_checkpoint(configs, data_root):
    """The last checkpoint of a vanilla model whose configs train one from another's weights; None without any.

    A model is trained if it is not there or its training was interrupted.
    """
    if not configs:
        return None
    *earlier, config = configs
    work_dir = ROOT / 'work_dirs' / config
    last = work_dir / 'trained'
    if not last.exists():
        start = vanilla_checkpoint(earlier, data_root)
        path = config_path(config, ROOT / 'configs')
        command = [sys.executable, ROOT / 'tools/train.py', path, '--work-dir', work_dir]
        command += ['--data-root', data_root] if data_root else []
        command += ['--cfg-options', f'load_from={start}'] if start else []
        if (work_dir / 'last_checkpoint').exists():
            command.append('--resume')
        if subprocess.run(list(map(str, command))).returncode:
            raise UserError(f'the training of {config} has failed, see above')
        last.write_text(Path((work_dir / 'last_checkpoint').read_text()).name)
    return str(work_dir / last.read_text())


def main():
    args = parse_args()
    if args.list:
        for path in sorted(EXPERIMENTS.glob('*.py')):
            print(f'{path.stem}\n{textwrap.indent(description(path), "    ")}')
        return
    path = EXPERIMENTS / f'{args.experiment}.py'
    vanilla = read_experiment(path, configs=ROOT / 'configs').vanilla
    if args.checkpoint and not vanilla:
        raise UserError(f'{args.experiment} trains from scratch: leave out --checkpoint')
    experiment = read_experiment(
        path, args.checkpoint or vanilla_checkpoint(vanilla, args.data_root), ROOT / 'configs')
    out_dir = Path(args.out_dir or ROOT / 'results' / experiment.name)
    done = run_cells(experiment.cells, out_dir, args.data_root, ib=True, jobs=args.jobs)
    save_experiment(experiment, out_dir)
    if not args.no_latency:
        measure_latency(done, experiment.batch_sizes)
    write_report(out_dir)
    console = Console()
    for text in ((out_dir / f'{NAME}.md').read_text(), claims_table(out_dir)):
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    if len(done) < len(experiment.cells):
        raise UserError(f'{len(experiment.cells) - len(done)} of {len(experiment.cells)} cells came to no result, '
                        'see above; a repeated call tries again')


if __name__ == '__main__':
    run(main)
