"""Latency of timm's plain ViTs with token merging beside themselves without, interleaved in one run."""

import os
import sys
from functools import cache, partial
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).resolve().parents[:2])
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import timm
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

from benchmark import KEY, Comparison, add_timing_options, named_mergers, show
from harness.result_file import ResultFile
from mmltm import apply_ltm
from mmltm.apis.benchmarking import VANILLA, Variant
from mmltm.apis.cli import make_parser
from mmltm.errors import UserError, run

EXAMPLES = """examples:
  python tools/analysis_tools/benchmark_timm.py vit_small_patch16_224 eva02_small_patch14_224 --batch-size 8
  # one mask for all images, one for each by class statistics, and ToMe
  python tools/analysis_tools/benchmark_timm.py vit_base_patch14_dinov2 --mergers LTM LTM:num_classes=1000 ToMe

Rounds, ratios and what a file of results has are those of tools/analysis_tools/benchmark.py. Weights are as timm draws
them.
"""


class TimmComparison(Comparison):
    """A model of timm and its copies with mergers, in the place of a config's variants."""

    def __init__(self, name, mergers, args):
        self.args, self.device, self.reasons = args, torch.device(args.device), {}
        self.variants = [Variant(VANILLA, None, {}), *(
            Variant(merger, args.ratio, config) for merger, config in mergers.items())]
        torch.manual_seed(0)
        vanilla = timm.create_model(name).eval()
        self.models = {VANILLA: nn.ModuleDict(dict(backbone=vanilla)).to(self.device)}
        for merger, config in mergers.items():
            merging = apply_ltm(vanilla, **{'ratio': args.ratio, **config})
            self.models[merger] = nn.ModuleDict(dict(backbone=merging)).to(self.device)
        self.gmacs = cache(self._gmacs)
        self.shape = vanilla.patch_embed.img_size

    def rows(self, batch, progress):
        """Those of a batch of images as large as the model wants them."""
        return self.measure('backbone', tuple(self.shape), batch, progress)


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('models', nargs='+', metavar='MODEL', help='name of a ViT, DeiT, DINOv2 or EVA-02 in timm')
    parser.add_argument('--mergers', nargs='+', metavar='TYPE[:KEY=VALUE,...]', default=['LTM', 'ToMe'],
                        help='mergers to time; default: LTM ToMe')
    parser.add_argument('--ratio', type=float, default=0.7, metavar='R', help='share of tokens kept; default: 0.7')
    parser.add_argument('--batch-size', nargs='+', type=int, default=[1, 8], metavar='B', help='default: 1 8')
    add_timing_options(parser)
    parser.add_argument('--out', metavar='FILE.json', help='write results here, after every measurement')
    args = parser.parse_args()
    args.amp, args.runtime = False, ['eager']
    return args


def main():
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    for name in args.models:
        if not timm.is_model(name):
            raise UserError(f'timm has no model {name}: timm.list_models() names all')
    mergers = named_mergers(args.mergers, dict(type='LTM'))
    console, device = Console(width=200), torch.device(args.device)
    kept = device.type != 'cuda' and os.environ.get('MALLOC_MMAP_MAX_') == '0'
    results = ResultFile(args.out, 'benchmark', KEY, device, dict(
        amp=False, **(dict(clock='CPU time') if args.cpu_time else {}), freed_memory_kept=kept, cfg_options={}))
    with Progress(console=console, transient=True) as progress:
        for name in progress.track(args.models, description='models'):
            comparison = TimmComparison(name, mergers, args)
            for batch in args.batch_size:
                task = progress.add_task(f'{name}, {batch}', total=args.rounds + args.warmup + len(comparison.models))
                rows = comparison.rows(batch, partial(progress.advance, task))
                results.add([dict(config=name, **row) for row in rows])
                progress.remove_task(task)
    show(results.rows, ', '.join(f'{key} {value}' for key, value in results.setting.items()), console)


if __name__ == '__main__':
    run(main)
