"""Latency of models with token merging beside their vanilla twins and other mergers, interleaved in one run."""

import math
import os
import sys
import time
from functools import cache, partial
from importlib.metadata import version
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import torch
from rich.console import Console
from rich.progress import Progress

from mmltm.apis.benchmarking import SCOPES, VANILLA, build_variant, merger_of, parameters, scope_macs, variants
from mmltm.apis.cli import CfgOptions, add_cfg_options, make_parser, make_table
from mmltm.apis.config import load_config
from mmltm.apis.preflight import check_ratio
from mmltm.apis.profiling import peak_bytes, time_interleaved
from mmltm.apis.runtimes import EXPORTED, RUNTIMES, Runnable, check_runtimes
from harness.result_file import ResultFile, config_name
from mmltm.errors import UserError, run, summary
from mmltm.merging import GridMerger
from mmltm.merging.base import merged_size
from mmltm.merging.grids import map_to_tokens, tokens_to_map
from mmltm.models.mergers import TOKEN_MERGERS, merger_type

EXAMPLES = """examples:
  # detectors, whole with post-processing and their backbones alone; started again, it goes on where it stopped
  python tools/analysis_tools/benchmark.py configs/ssdlite_ltm_*_200e.py --scope network backbone \\
      --shape 320 320 --shape 800 1344 --batch-size 1 --out results/detectors.json
  # mergers side by side, at the config's ratio
  python tools/analysis_tools/benchmark.py configs/imagenet/ltm_vit_s_300e_in1k.py --scope backbone \\
      --mergers LTM LTM:mode=static ToMe
  # in other runtimes, exported for them (pip install 'mmltm[deploy]')
  python tools/analysis_tools/benchmark.py configs/imagenet/ltm_vit_s_300e_in1k.py --scope backbone --threads 1 \\
      --mergers LTM:mode=static LTM ToMe --runtime eager onnxruntime openvino
  # bfloat16 or float16 on a GPU
  python tools/analysis_tools/benchmark.py configs/mask_rcnn_ltm_effvit_b1_1x.py --shape 800 1344 --device cuda --amp

Each round times every model once in every runtime, vanilla first in one round and last in the next; a ratio is the
median of the rounds' own ratios, within a runtime, so a machine whose speed drifts does not bend it. One config's
models are in memory at a time. What a runtime cannot take becomes a row that says why.

On a CPU of a virtual machine, page faults can take longer than the arithmetic. Have glibc keep freed memory for the
next call, as the scripts of this project do; results say whether it was so (freed_memory_kept):
  MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 python tools/analysis_tools/benchmark.py ...
"""

KEY = ('config', 'merger', 'ratio', 'scope', 'shape', 'batch_size', 'runtime')


class CropMerge:
    """The upper left corner of maps, (B, ..., C, H, W), as large as a merged map; their memory layout is kept."""

    def __init__(self, grid, source, target):
        self.grid, self.merged_grid = tuple(grid), merged_size(grid, source, target)

    def merge(self, x):
        """(B, ..., C, H, W) to (B, ..., C, H', W'), a view."""
        return x[..., :self.merged_grid[0], :self.merged_grid[1]]

    def unmerge(self, y):
        """(B, ..., C, H', W') to (B, ..., C, H, W), zeros where there is nothing."""
        x = y.new_zeros(*y.shape[:-3], *self.grid, y.shape[-3]).movedim(-1, -3)
        self.merge(x).copy_(y)
        return x

    def restore(self, full, merged, update):
        """The map before merging but for its corner, which is ``update``: every way back writes so much."""
        full = full.clone()
        self.merge(full).copy_(update)
        return full

    def detour(self, tokens, function):
        """A function of the tokens in the corner, and zeros elsewhere, (B, H W, C)."""
        corner = map_to_tokens(self.merge(tokens_to_map(tokens, self.grid)))
        return map_to_tokens(self.unmerge(tokens_to_map(function(corner), self.merged_grid)))


class Crop(GridMerger):
    """Cuts off the tokens of a block that merging would take away, and brings back nothing: what it saves without any
    arithmetic is the physical limit of any merger at the same number of tokens. What the model says is worthless.
    """

    def operator(self, x):
        return CropMerge(x.shape[-2:], *self.windows(x.shape[-2:]))


def add_timing_options(parser):
    """Adds how often, how long, where and by which clock models are timed."""
    parser.add_argument('--rounds', type=int, default=20, help='counted rounds; default: 20')
    parser.add_argument('--warmup', type=int, default=3, help='rounds not counted; default: 3')
    parser.add_argument('--max-time', type=float, default=math.inf, metavar='S',
                        help='begin no round of a measurement after so many seconds, as long as three are counted')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='CPU threads of torch; default: as many as torch chooses')
    parser.add_argument('--cpu-time', action='store_true',
                        help='count the processor time of this process, for one thread beside other programs')


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config with a backbone of mmltm')
    parser.add_argument('--scope', nargs='+', choices=SCOPES, default=['network'],
                        help='what to time: the whole network with post-processing, its backbone, or both; default: '
                        'network')
    parser.add_argument('--mergers', nargs='+', metavar='TYPE[:KEY=VALUE,...]',
                        help=f'mergers to time at the same ratio, of {", ".join(sorted(TOKEN_MERGERS.module_dict))}, '
                        'and Crop, which cuts tokens off at no cost; settings as in LTM:mode=static; default: the '
                        "config's own")
    parser.add_argument('--ratio', type=float, metavar='R',
                        help="share of tokens that blocks keep; default: the config's own")
    parser.add_argument('--shape', nargs=2, type=int, action='append', metavar=('H', 'W'),
                        help='input size in pixels, may be repeated; default: 224 224')
    parser.add_argument('--batch-size', nargs='+', type=int, default=[1, 16], metavar='B', help='default: 1 16')
    add_timing_options(parser)
    parser.add_argument('--amp', action='store_true', help='autocast: bfloat16 on a CPU, float16 on a GPU')
    parser.add_argument('--tf32', action='store_true', help='matrix products of a GPU in TensorFloat-32')
    parser.add_argument('--runtime', nargs='+', choices=RUNTIMES, default=['eager'],
                        help='PyTorch eager, compiled or as a CUDA graph, ONNX Runtime, OpenVINO; default: eager')
    parser.add_argument('--out', metavar='FILE.json',
                        help='write results here, after every measurement; what the file has is not measured again')
    add_cfg_options(parser)
    args = parser.parse_args()
    args.shape = args.shape or [(224, 224)]
    if min(*args.batch_size, *map(min, args.shape), args.rounds) < 1 or args.warmup < 0 or args.max_time <= 0:
        parser.error('batch sizes, shapes, rounds and time must be positive')
    if args.ratio is not None and not 0 < args.ratio <= 1:
        parser.error('--ratio takes a number in (0, 1]')
    return args


def load_configs(args):
    """Configs and variants by the name that rows give them; what is wrong is said before time is spent."""
    configs = {}
    for name in args.configs:
        cfg = load_config(name, args.cfg_options)
        check_ratio(cfg)
        stem = config_name(name)
        if stem in configs:
            raise UserError(f'config {name}: another one is called {stem}, too')
        configs[stem] = cfg, variants(cfg, named_mergers(args.mergers or (), merger_of(cfg)), args.ratio)
    return configs


def named_mergers(names, own):
    """Configs of the mergers that the command line names; the config's own type keeps what the config says of it."""
    mergers = {}
    for name in names:
        kind, _, settings = name.partition(':')
        merger = mergers[name] = dict(own) if kind == own['type'] else dict(type=Crop if kind == 'Crop' else kind)
        for setting in filter(None, settings.split(',')):
            key, equals, value = setting.partition('=')
            if not equals:
                raise UserError(f'merger {name}: expected TYPE:KEY=VALUE,...')
            merger[key] = CfgOptions._parse_int_float_bool(value)
        try:
            merger_type(merger)
        except ValueError as error:
            raise UserError(str(error)) from error
    return mergers


class Comparison:
    """Variants of one config, the vanilla twin first, held in memory together and measured in the same rounds.

    Of several mergers, one that the backbone cannot use becomes a row that says why; a single one is an error.
    """

    def __init__(self, cfg, lines, args):
        self.variants, self.args, self.device = lines, args, torch.device(args.device)
        self.models, self.reasons = {}, {}
        self.gmacs = cache(self._gmacs)  # the same for every batch size
        for line in lines:
            try:
                self.models[line.merger] = build_variant(cfg, line).to(self.device)
            except UserError as error:
                if line.merger == VANILLA or len(lines) == 2:
                    raise
                self.reasons[line.merger] = str(error.__cause__)

    def measure(self, scope, shape, batch, progress):
        """Rows of results, one a runtime and variant, for a batch of noise.

        ``progress`` is called after every round and for every call that is prepared. Each row has ``merger``, ``ratio``
        and ``runtime``; ``reason`` where it could not be built or run; else ``gmacs`` of an image, ``parameters_m`` in
        millions, ``peak_mb`` (what tensors of a call take at most beside the model, 1e6 bytes; of eager mode alone),
        ``rounds`` counted, ``latency_ms`` (median), ``images_per_second``, ``macs_ratio`` and ``latency_ratio`` to
        vanilla, and ``first_ratio``, the first merger's latency over this one's (None for vanilla, and where the first
        merger could not be measured). Of latencies there are ``..._quartiles``, too; ratios are medians and quartiles
        of the rounds' own ratios.
        """
        args = self.args
        calls, reasons = self.prepare(scope, torch.randn(batch, 3, *shape, device=self.device), progress)
        timings = dict(zip(calls, time_interleaved(
            list(calls.values()), args.rounds, args.warmup, self.device, progress, args.max_time,
            time.process_time if args.cpu_time else time.perf_counter)))
        rows = []
        for runtime, line in product(args.runtime, self.variants):
            row = dict(merger=line.merger, ratio=line.ratio, scope=scope, shape=list(shape), batch_size=batch,
                       runtime=runtime)
            rows.append(row)
            if (runtime, line.merger) not in calls:
                row.update(reason=reasons[runtime, line.merger])
                continue
            timing, model = timings[runtime, line.merger], self.models[line.merger]
            ratio = timing.ratio_to(timings[runtime, VANILLA])
            gmacs = self.gmacs(line.merger, scope, *shape)
            row.update(
                gmacs=gmacs, parameters_m=parameters(model.backbone if scope == 'backbone' else model),
                peak_mb=peak_bytes(calls[runtime, line.merger], self.device) / 1e6 if runtime == 'eager' else None,
                rounds=len(timing.seconds), latency_ms=1e3 * timing.median,
                latency_ms_quartiles=[1e3 * q for q in timing.quartiles], images_per_second=batch / timing.median,
                macs_ratio=gmacs / self.gmacs(VANILLA, scope, *shape), latency_ratio=ratio.median,
                latency_ratio_quartiles=list(ratio.quartiles), first_ratio=None, first_ratio_quartiles=None)
            first = timings.get((runtime, self.variants[1].merger))
            if first is not None and line.merger != VANILLA:
                mine = first.ratio_to(timing)
                row.update(first_ratio=mine.median, first_ratio_quartiles=list(mine.quartiles))
        return rows

    def prepare(self, scope, inputs, progress):
        """Calls by runtime and merger, and why there is none; a runtime without a vanilla twin compares nothing."""
        calls, reasons = {}, {(runtime, merger): reason for runtime in self.args.runtime
                              for merger, reason in self.reasons.items()}
        for merger, model in self.models.items():
            runnable = Runnable(model, scope, inputs, self.args.amp)
            for runtime in self.args.runtime:
                progress()
                if (runtime, VANILLA) in reasons:
                    reasons[runtime, merger] = f'the vanilla twin does not run: {reasons[runtime, VANILLA]}'
                    continue
                try:
                    calls[runtime, merger] = runnable.call(runtime)
                except Exception as error:  # whatever exporters, compilers and runtimes raise
                    if runtime == 'eager':
                        raise
                    reasons[runtime, merger] = summary(error)[:300]
        return calls, reasons

    def _gmacs(self, name, scope, *shape):
        return scope_macs(self.models[name], scope, shape)[''] / 1e9


def measure(name, cfg, lines, args, results, progress):
    """Adds to ``results`` what they lack of one config, whose models are gone afterwards."""
    todo = [dict(scope=scope, shape=list(shape), batch=batch)
            for scope in args.scope for shape in args.shape for batch in args.batch_size
            if not all(results.has(config=name, merger=line.merger, ratio=line.ratio, scope=scope, shape=list(shape),
                                   batch_size=batch, runtime=runtime)
                       for line, runtime in product(lines, args.runtime))]
    comparison = Comparison(cfg, lines, args) if todo else None
    for job in todo:
        title = '{}, {scope}, {batch} x {shape[0]} x {shape[1]}'.format(name, **job)
        task = progress.add_task(title, total=args.rounds + args.warmup + len(comparison.models) * len(args.runtime))
        rows = comparison.measure(**job, progress=partial(progress.advance, task))
        results.add([dict(config=name, **row) for row in rows])
        progress.remove_task(task)


def show(rows, title, console):
    table = make_table(title, (
        'config', 'merger', 'runtime', 'scope', 'input', 'batch', 'params, M', 'GMACs', 'to vanilla', 'latency, ms',
        'quartiles', 'images/s', 'to vanilla', 'quartiles', 'first merger / this'), texts=4)
    for row in rows:
        cells = [row['config'], row['merger'], row['runtime'], row['scope'], '{}x{}'.format(*row['shape']),
                 str(row['batch_size'])]
        if 'reason' in row:
            table.add_row(*cells)
            continue
        low, high = row['latency_ms_quartiles']
        ratio_low, ratio_high = row['latency_ratio_quartiles']
        table.add_row(
            *cells, f"{row['parameters_m']:.2f}", f"{row['gmacs']:.3f}", f"{row['macs_ratio']:.3f}",
            f"{row['latency_ms']:.1f}", f'{low:.1f}-{high:.1f}', f"{row['images_per_second']:.1f}",
            f"{row['latency_ratio']:.3f}", f'{ratio_low:.3f}-{ratio_high:.3f}',
            '' if row['first_ratio'] is None else f"{row['first_ratio']:.3f}")
    console.print(table)
    for reason in sorted({'{config}, {merger}, {runtime}: {reason}'.format(**row) for row in rows if 'reason' in row}):
        console.print(reason, markup=False)


def main():
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.tf32:
        torch.set_float32_matmul_precision('high')
        torch.backends.cudnn.allow_tf32 = True
    device = torch.device(args.device)
    check_runtimes(args.runtime, device, args.amp)
    configs = load_configs(args)
    console = Console(width=200)
    kept = device.type != 'cuda' and os.environ.get('MALLOC_MMAP_MAX_') == '0'
    results = ResultFile(args.out, 'benchmark', KEY, device, dict(
        amp=args.amp, **(dict(tf32=True) if args.tf32 else {}), **(dict(clock='CPU time') if args.cpu_time else {}),
        **{name: version(name) for name in EXPORTED if name in args.runtime}, freed_memory_kept=kept,
        cfg_options=args.cfg_options))
    with Progress(console=console, transient=True) as progress:
        for name, (cfg, lines) in progress.track(configs.items(), description='configs'):
            measure(name, cfg, lines, args, results, progress)
    show([row for row in results.rows if row['config'] in configs],
         ', '.join(f'{key} {value}' for key, value in results.setting.items()), console)


if __name__ == '__main__':
    run(main)
