"""Latency of models with token merging against their vanilla twins, interleaved in one run."""

import json
import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import mmltm
from mmltm.utils.allocator import keep_freed_memory
from mmltm.utils.cli import CfgOptions, make_parser
from mmltm.utils.config import load_config
from mmltm.utils.errors import UserError, run
from mmltm.utils.preflight import check_ratio
from mmltm.utils.profiling import build_model, count_macs, network_call, time_interleaved, vanilla_twin

EXAMPLES = """examples:
  # backbone alone, as the table of the README
  python tools/analysis_tools/benchmark.py configs/mask_rcnn_ltm_effvit_b1_1x.py \\
      --backbone-only --shape 320 320 --shape 800 1344 --batch-size 1 8
  # whole detector with post-processing, bfloat16 on a GPU
  python tools/analysis_tools/benchmark.py configs/mask_rcnn_ltm_effvit_b1_1x.py \\
      --shape 800 1344 --device cuda --amp

Each round times every model once, vanilla first in one round and last in the next; the ratio is the median of the
rounds' own ratios, so a machine whose speed drifts does not bend it. On a CPU, freed memory is kept for the next call
(see mmltm/utils/allocator.py), for both models alike.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config with a backbone of mmltm')
    parser.add_argument('--shape', nargs=2, type=int, action='append', metavar=('H', 'W'),
                        help='input size in pixels, may be repeated; default: 224 224')
    parser.add_argument('--batch-size', nargs='+', type=int, default=[1, 16], metavar='B', help='default: 1 16')
    parser.add_argument('--backbone-only', action='store_true', help='time the backbone, not the whole network')
    parser.add_argument('--rounds', type=int, default=20, help='counted rounds; default: 20')
    parser.add_argument('--warmup', type=int, default=3, help='rounds not counted; default: 3')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='CPU threads of torch; default: as many as torch chooses')
    parser.add_argument('--amp', action='store_true', help='autocast: bfloat16 on a CPU, float16 on a GPU')
    parser.add_argument('--compile', action='store_true', help='compile all models with torch.compile')
    parser.add_argument('--out', help='write the results to this JSON file')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE',
                        help='override settings of the configs')
    args = parser.parse_args()
    args.shape = args.shape or [(224, 224)]
    if min(min(args.batch_size), min(map(min, args.shape)), args.rounds) < 1:
        parser.error('batch sizes, shapes and rounds must be positive')
    return args


def candidates(args):
    """Name and model of every config, each behind its vanilla twin."""
    for name in args.configs:
        cfg = load_config(name, args.cfg_options)
        check_ratio(cfg)
        try:
            vanilla = vanilla_twin(cfg)
        except ValueError as error:
            raise UserError(f'config {name}: {error}') from error
        for suffix, model_cfg in (('vanilla', vanilla), ('LTM', cfg.model)):
            torch.manual_seed(0)
            yield f'{Path(name).stem} ({suffix})', build_model(model_cfg, cfg.default_scope)


def forward(model, inputs, args):
    """A call without arguments for one measurement."""
    if args.backbone_only:
        def call():
            return model.backbone(inputs)
    else:
        call = network_call(model, inputs, predict=True)
    if args.compile:
        call = torch.compile(call)
    if not args.amp:
        return call

    def autocast():
        with torch.autocast(args.device):
            return call()
    return autocast


def measure(args, models, console):
    """Rows of results: one a model, shape and batch size."""
    rows = []
    device = torch.device(args.device)
    with Progress(console=console, transient=True) as progress:
        for shape in args.shape:
            for batch in args.batch_size:
                inputs = torch.randn(batch, 3, *shape, device=device)
                task = progress.add_task(f'{batch} x {shape[0]} x {shape[1]}', total=args.rounds + args.warmup)
                timings = time_interleaved(
                    [forward(model, inputs, args) for _, model in models], args.rounds, args.warmup, device,
                    lambda: progress.advance(task))
                macs = [count(model, inputs[:1], args.backbone_only) for _, model in models]
                for index, ((name, _), timing) in enumerate(zip(models, timings)):
                    vanilla = index - index % 2
                    ratio = timing.ratio_to(timings[vanilla])
                    rows.append(dict(
                        model=name, shape=list(shape), batch_size=batch, gmacs=macs[index] / 1e9,
                        macs_ratio=macs[index] / macs[vanilla], latency_ms=1e3 * timing.median,
                        latency_quartiles_ms=[1e3 * q for q in timing.quartiles],
                        images_per_second=batch / timing.median,
                        latency_ratio=ratio.median, latency_ratio_quartiles=list(ratio.quartiles)))
    return rows


def count(model, inputs, backbone_only):
    module = model.backbone if backbone_only else model
    call = (lambda: module(inputs)) if backbone_only else network_call(model, inputs)
    return count_macs(module, call)['']


def show(rows, title, console):
    table = Table(title=title, title_justify='left')
    for column in ('model', 'input', 'batch', 'GMACs', 'MACs ratio', 'latency, ms', 'quartiles', 'images/s',
                   'latency ratio', 'quartiles'):
        table.add_column(column, justify='left' if column == 'model' else 'right')
    for row in rows:
        low, high = row['latency_quartiles_ms']
        ratio_low, ratio_high = row['latency_ratio_quartiles']
        table.add_row(
            row['model'], '{}x{}'.format(*row['shape']), str(row['batch_size']), f"{row['gmacs']:.3f}",
            f"{row['macs_ratio']:.3f}", f"{row['latency_ms']:.1f}", f'{low:.1f}-{high:.1f}',
            f"{row['images_per_second']:.1f}", f"{row['latency_ratio']:.3f}", f'{ratio_low:.3f}-{ratio_high:.3f}')
    console.print(table)


def main():
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    console = Console(width=160)
    kept = not args.device.startswith('cuda') and keep_freed_memory()
    models = [(name, model.to(args.device)) for name, model in candidates(args)]
    dtype = 'autocast' if args.amp else 'float32'
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else (
        f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads')
    setting = dict(
        scope='backbone' if args.backbone_only else 'network with post-processing', device=args.device, hardware=where,
        dtype=dtype, compiled=args.compile, freed_memory_kept=kept, rounds=args.rounds, torch=torch.__version__, mmltm=mmltm.__version__)
    rows = measure(args, models, console)
    show(rows, ', '.join(f'{key} {value}' for key, value in setting.items()), console)
    if args.out:
        Path(args.out).write_text(json.dumps(dict(setting=setting, rows=rows), indent=1) + '\n')


if __name__ == '__main__':
    run(main)
