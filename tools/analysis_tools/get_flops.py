"""Multiply-accumulates and parameters of models, block by block or beside their vanilla twins, without a data set."""

import copy
import json
import math
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import torch
from rich.console import Console
from rich.progress import Progress

from mmltm.apis.benchmarking import (
    SCOPES,
    Variant,
    beside_vanilla,
    build_variant,
    merger_of,
    parameters,
    scope_macs,
    variants,
)
from mmltm.apis.cli import add_cfg_options, make_parser, make_table
from mmltm.apis.config import load_config
from mmltm.apis.preflight import check_ratio
from harness.result_file import ResultFile, config_name
from mmltm.errors import run
from mmltm.merging.trace import mergers_of
from mmltm.models.builder import vanilla_twin

ROOT = Path(__file__).resolve().parents[2]

EXAMPLES = """examples:
  python tools/analysis_tools/get_flops.py configs/mask_rcnn_ltm_effvit_b1_1x.py --shape 800 1344
  python tools/analysis_tools/get_flops.py mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py --depth 1
  # several models or ratios, or into a file: one line each, beside the vanilla twin
  python tools/analysis_tools/get_flops.py configs/imagenet/ltm_*_300e_in1k.py --out results/macs_classifiers.json
  python tools/analysis_tools/get_flops.py configs/imagenet/ltm_vit_b_300e_in1k.py --ratio 0.95 0.7 0.4
  # the mask module as the paper has it, beside the paper's numbers
  python tools/analysis_tools/get_flops.py configs/paper/*.py

One multiplication and one addition are one multiply-accumulate (MAC); many papers say FLOPs for it. Convolutions and
matrix products count, those of attention included; element-wise work, normalisation and pooling do not. A two-stage
detector is counted with as many proposals as its configuration lets through at test time.
"""

KEY = ('config', 'merger', 'ratio', 'scope', 'shape')


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('configs', nargs='+', metavar='CONFIG',
                        help='config of mmltm, mmdet, mmpretrain or mmseg; mmdet::... and the like work')
    parser.add_argument('--shape', nargs='+', type=int, metavar='N',
                        help="input size in pixels: side, or height and width; default: a classifier's test crop, "
                        'else 224 224')
    parser.add_argument('--ratio', nargs='+', type=float, metavar='R',
                        help="kept shares to count, one line each, in place of the config's own")
    parser.add_argument('--scope', nargs='+', choices=SCOPES, default=['network'],
                        help='what to count: the whole network, its backbone, or both; default: network')
    parser.add_argument('--depth', type=int, default=3, help='levels of modules to list; default: 3')
    parser.add_argument('--out', metavar='FILE.json',
                        help='write the lines here; what the file has is not counted again')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        parser.error('--shape takes one or two positive numbers')
    if args.ratio and not all(0 < ratio <= 1 for ratio in args.ratio):
        parser.error('--ratio takes numbers in (0, 1]')
    return args


def input_shape(cfg, shape):
    """Height and width: as asked for, else of the classifier's test images."""
    if shape:
        return shape * 2 if len(shape) == 1 else shape
    loader = cfg.get('test_dataloader') or {}
    for transform in loader.get('dataset', {}).get('pipeline', []):
        if transform['type'] == 'CenterCrop':
            return [transform['crop_size']] * 2
    return [224, 224]


def merges(cfg):
    return bool(cfg.model.backbone.get('merger') or cfg.model.backbone.get('ratio'))


def show_blocks(name, cfg, scope, args, console):
    """One model, module by module."""
    height, width = shape = input_shape(cfg, args.shape)
    model = build_variant(cfg, Variant('', None, cfg.model))
    macs = scope_macs(model, scope, shape)
    model = model.backbone if scope == 'backbone' else model
    table = make_table(f'{name}, {scope}, {height} x {width} pixels', ('module', 'GMACs', 'share', 'parameters, M'))
    for path, module in model.named_modules():
        level = path.count('.') + 1 if path else 0
        if macs[path] and level <= args.depth:
            table.add_row('  ' * level + (path.rpartition('.')[2] or type(model).__name__), f'{macs[path] / 1e9:.3f}',
                          f"{100 * macs[path] / macs['']:.1f}%", f'{parameters(module):.3f}')
    console.print(table)
    console.print(f"total: {macs[''] / 1e9:.3f} G multiply-accumulates at {height} x {width} pixels, "
                  f'{parameters(model):.3f} M parameters')


def count(name, cfg, args, results):
    """Adds to ``results`` the rows of one config that they lack."""
    shape = input_shape(cfg, args.shape)
    if args.ratio or merges(cfg):
        lines = [line for ratio in args.ratio or [None] for line in variants(cfg, ratio=ratio)]
    else:
        lines = [Variant(None, None, cfg.model)]
    for line in lines:
        lacking = [scope for scope in args.scope if not results.has(
            config=name, merger=line.merger, ratio=line.ratio, scope=scope, shape=shape)]
        model = build_variant(cfg, line) if lacking else None
        for scope in lacking:
            results.add([dict(
                config=name, merger=line.merger, ratio=line.ratio, scope=scope, shape=shape,
                parameters_m=parameters(model.backbone if scope == 'backbone' else model),
                gmacs=scope_macs(model, scope, shape)[''] / 1e9)])


def show_summary(rows, console):
    """One line a model, beside its vanilla twin where it has one."""
    table = make_table('multiply-accumulates (MACs) of one image', (
        'model', 'ratio', 'scope', 'pixels', 'parameters, M', 'GMACs', 'vanilla GMACs', 'quotient'))
    for row, vanilla in beside_vanilla(rows):
        cells = [row['config'], str(row['ratio'] or ''), row['scope'], '{} x {}'.format(*row['shape']),
                 f"{row['parameters_m']:.2f}", f"{row['gmacs']:.3f}"]
        if vanilla:
            cells += [f"{vanilla['gmacs']:.3f}", f"{row['gmacs'] / vanilla['gmacs']:.3f}"]
        table.add_row(*cells)
    console.print(table)


def paper_macs(cfg):
    """What a config of the paper's costs, and its parts: the network at the merged tokens, merging, making of masks.

    Merging is the product G^T Z, N P D; making is counted as the paper does, 6 C D P + 3 C + N D^2. The network is that
    with tokens cut off in place of merged, so our way back is not in it.
    """
    shape, own = cfg.paper.shape, merger_of(cfg)
    classes = own.pop('num_classes')

    def build(**merger):
        model = copy.deepcopy(cfg.model)
        model.backbone.pop('ratio', None)
        model.backbone.merger = {**own, **merger}
        return build_variant(cfg, Variant('', None, model))

    model, sizes = build(type=runpy.run_path(str(Path(__file__).with_name('benchmark.py')))['Crop']), {}
    merging = mergers_of(model.backbone)
    for name, merger in merging.items():
        merger.register_forward_hook(lambda module, args, output, name=name: sizes.update(
            {name: (math.prod(output[0].grid), math.prod(output[0].merged_grid))}))
    network = scope_macs(model, 'network', shape)['']
    merged = sum(n * p * merging[name].embed_dims for name, (n, p) in sizes.items())
    made = sum(6 * classes * merger.embed_dims * math.prod(merger.target) + 3 * classes
               + sizes[name][0] * merger.embed_dims**2 / merger.groups for name, merger in merging.items())
    vanilla = build_variant(cfg, Variant('', None, vanilla_twin(cfg)))
    return dict(vanilla=scope_macs(vanilla, 'network', shape)[''] / 1e9, network=network / 1e9, merging=merged / 1e9,
                making=made / 1e9, parameters=parameters(build(num_classes=2)))


def show_paper(configs, console):
    """Configs of the paper's models beside its numbers."""
    entries = json.loads((ROOT / 'results/paper.json').read_text())['entries']
    table = make_table("multiply-accumulates (MACs) of one image, in 10^9, and the paper's", (
        'model', 'pixels', 'parameters, M', "paper's", 'vanilla', 'network', 'merging', 'making', 'quotient, network',
        'with merging', "paper's"))
    for cfg in configs.values():
        costs, ratio = paper_macs(cfg), merger_of(cfg)['ratio']
        known = {key: value for entry in entries for key, value in entry.items()
                 if (entry['model'], entry['pixels'], entry['ratio']) == (cfg.paper.model, cfg.paper.shape[0], ratio)}
        quotient = known.get('macs_ratio')
        if quotient is None and 'vanilla_gmacs' in known:
            quotient = known['gmacs'] / known['vanilla_gmacs']
        table.add_row(
            cfg.paper.model, '{} x {}'.format(*cfg.paper.shape), f"{costs['parameters']:.2f}",
            str(known.get('parameters_m', '')),
            *(f'{costs[key]:.3f}' for key in ('vanilla', 'network', 'merging', 'making')),
            f"{costs['network'] / costs['vanilla']:.3f}",
            f"{(costs['network'] + costs['merging']) / costs['vanilla']:.3f}",
            '' if quotient is None else f'{quotient:.3f}')
    console.print(table)


def main():
    args = parse_args()
    console = Console(width=150)
    configs = {name: load_config(name, args.cfg_options) for name in args.configs}
    for cfg in configs.values():
        check_ratio(cfg)
    if all('paper' in cfg for cfg in configs.values()) and not (args.ratio or args.out or args.shape):
        show_paper(configs, console)
        return
    if len(configs) == 1 and not args.ratio and not args.out:
        for scope in args.scope:
            show_blocks(*next(iter(configs.items())), scope, args, console)
        return
    results = ResultFile(args.out, 'macs', KEY, torch.device('cpu'), dict(cfg_options=args.cfg_options))
    with Progress(console=console, transient=True) as progress:
        for name, cfg in progress.track(configs.items(), description='counting'):
            count(config_name(name), cfg, args, results)
    show_summary(results.rows, console)


if __name__ == '__main__':
    run(main)
