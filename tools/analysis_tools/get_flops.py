"""Multiply-accumulates and parameters of models, block by block or against their vanilla twins, without a data set."""

import copy
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mmltm.utils.cli import CfgOptions, make_parser
from mmltm.utils.config import load_config
from mmltm.utils.errors import UserError, run
from mmltm.utils.preflight import check_ratio
from mmltm.utils.profiling import build_model, count_macs, network_call, vanilla_twin

EXAMPLES = """examples:
  python tools/analysis_tools/get_flops.py configs/mask_rcnn_ltm_effvit_b1_1x.py --shape 800 1344
  python tools/analysis_tools/get_flops.py mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py --depth 1
  # several models or ratios: one line each, beside the vanilla twin
  python tools/analysis_tools/get_flops.py configs/ltm_*_300e_in1k.py
  python tools/analysis_tools/get_flops.py configs/ltm_vit_b_300e_in1k.py --ratio 0.95 0.7 0.4

One multiplication and one addition are one multiply-accumulate (MAC); many papers say FLOPs for it. Convolutions and
matrix products count, those of attention included; element-wise work, normalisation and pooling do not. A two-stage
detector is counted with as many proposals as its configuration lets through at test time.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('configs', nargs='+', metavar='CONFIG',
                        help='config of mmltm, mmdet or mmpretrain; mmdet::... and mmpretrain::... work')
    parser.add_argument('--shape', nargs='+', type=int, metavar='N',
                        help="input size in pixels: side, or height and width; default: a classifier's test crop, "
                        'else 224 224')
    parser.add_argument('--ratio', nargs='+', type=float, metavar='R',
                        help="kept shares to count, one line each, in place of the config's own")
    parser.add_argument('--backbone-only', action='store_true', help='count the backbone, not the whole network')
    parser.add_argument('--depth', type=int, default=3, help='levels of modules to list; default: 3')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE',
                        help='override settings of the config')
    args = parser.parse_args()
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        parser.error('--shape takes one or two positive numbers')
    if args.ratio and not all(0 < ratio <= 1 for ratio in args.ratio):
        parser.error('--ratio takes numbers in (0, 1]')
    return args


def input_shape(cfg, shape):
    """Height and width: as asked for, else of the classifier's test images."""
    if shape:
        return tuple(shape * 2 if len(shape) == 1 else shape)
    loader = cfg.get('test_dataloader') or {}
    for transform in loader.get('dataset', {}).get('pipeline', []):
        if transform['type'] == 'CenterCrop':
            return (transform['crop_size'], ) * 2
    return 224, 224


def measure(model_cfg, cfg, shape, backbone_only):
    """The model, or its backbone, and the count of each of its modules."""
    model = build_model(model_cfg, cfg.default_scope)
    inputs = torch.zeros(1, 3, *shape)
    if backbone_only:
        model = model.backbone
        return model, count_macs(model, lambda: model(inputs))
    return model, count_macs(model, network_call(model, inputs))


def parameters(module):
    return sum(p.numel() for p in module.parameters()) / 1e6


def show_blocks(name, cfg, args, console):
    """One model, module by module."""
    height, width = shape = input_shape(cfg, args.shape)
    model, macs = measure(cfg.model, cfg, shape, args.backbone_only)
    table = Table(title=f'{name}, {height} x {width} pixels', title_justify='left')
    table.add_column('module')
    for column in ('GMACs', 'share', 'parameters, M'):
        table.add_column(column, justify='right')
    for path, module in model.named_modules():
        level = path.count('.') + 1 if path else 0
        if macs[path] and level <= args.depth:
            table.add_row('  ' * level + (path.rpartition('.')[2] or type(model).__name__), f'{macs[path] / 1e9:.3f}',
                          f"{100 * macs[path] / macs['']:.1f}%", f'{parameters(module):.3f}')
    console.print(table)
    console.print(f"total: {macs[''] / 1e9:.3f} G multiply-accumulates at {height} x {width} pixels, "
                  f'{parameters(model):.3f} M parameters')


def with_ratios(name, cfg, ratios):
    """Ratio and model config of every line that a config takes in the table."""
    if not ratios:
        return [(None, cfg.model)]
    backbone = cfg.model.backbone
    if not backbone.get('merger') and backbone.get('ratio') is None:
        raise UserError(f'config {name}: the backbone {backbone.type} merges no tokens, so --ratio says nothing')
    lines = []
    for ratio in ratios:
        model = copy.deepcopy(cfg.model)
        (model.backbone.merger if model.backbone.get('merger') else model.backbone)['ratio'] = ratio
        lines.append((ratio, model))
    return lines


def show_summary(configs, args, console):
    """One line a model, beside its vanilla twin where it has one."""
    table = Table(title='multiply-accumulates (MACs) of one image', title_justify='left')
    table.add_column('model')
    for column in ('ratio', 'pixels', 'parameters, M', 'GMACs', 'vanilla GMACs', 'quotient'):
        table.add_column(column, justify='right')
    jobs = [(name, cfg, *line) for name, cfg in configs for line in with_ratios(name, cfg, args.ratio)]
    vanilla = {}
    with Progress(console=console, transient=True) as progress:
        for name, cfg, ratio, model_cfg in progress.track(jobs, description='counting'):
            shape = input_shape(cfg, args.shape)
            model, macs = measure(model_cfg, cfg, shape, args.backbone_only)
            merger = model_cfg.backbone.get('merger') or model_cfg.backbone
            row = [Path(name).stem, str(ratio or merger.get('ratio') or ''), '{} x {}'.format(*shape),
                   f'{parameters(model):.2f}', f"{macs[''] / 1e9:.3f}"]
            if 'ratio' in merger:
                if name not in vanilla:
                    vanilla[name] = measure(vanilla_twin(cfg), cfg, shape, args.backbone_only)[1]['']
                row += [f'{vanilla[name] / 1e9:.3f}', f"{macs[''] / vanilla[name]:.3f}"]
            table.add_row(*row)
    console.print(table)


def main():
    args = parse_args()
    console = Console(width=130)
    configs = [(name, load_config(name, args.cfg_options)) for name in args.configs]
    for _, cfg in configs:
        check_ratio(cfg)
    if len(configs) == 1 and not args.ratio:
        show_blocks(*configs[0], args, console)
    else:
        show_summary(configs, args, console)


if __name__ == '__main__':
    run(main)
