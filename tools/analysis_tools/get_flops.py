"""Multiply-accumulates and parameters of a config's model, block by block, without a data set."""

import torch
from rich.console import Console
from rich.table import Table

from mmltm.utils.cli import CfgOptions, make_parser
from mmltm.utils.config import load_config
from mmltm.utils.errors import run
from mmltm.utils.profiling import build_model, count_macs, network_call

EXAMPLES = """examples:
  python tools/analysis_tools/get_flops.py configs/mask_rcnn_ltm_effvit_b1_1x.py --shape 800 1344
  python tools/analysis_tools/get_flops.py mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py --depth 1

One multiplication and one addition are one multiply-accumulate (MAC); many papers say FLOPs for it. Convolutions and
matrix products count, those of attention included; element-wise work, normalisation and pooling do not. A two-stage
detector is counted with as many proposals as its configuration lets through at test time.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config of mmltm, mmdet or mmpretrain; mmdet::... and mmpretrain::... work')
    parser.add_argument('--shape', nargs='+', type=int, default=[224, 224], metavar='N',
                        help='input size in pixels: side, or height and width; default: 224 224')
    parser.add_argument('--depth', type=int, default=3, help='levels of modules to list; default: 3')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE',
                        help='override settings of the config')
    args = parser.parse_args()
    if len(args.shape) > 2 or min(args.shape) < 1:
        parser.error('--shape takes one or two positive numbers')
    args.shape = args.shape * 2 if len(args.shape) == 1 else args.shape
    return args


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    model = build_model(cfg.model, cfg.default_scope)
    macs = count_macs(model, network_call(model, torch.zeros(1, 3, *args.shape)))

    console = Console(width=120)
    height, width = args.shape
    table = Table(title=f'{args.config}, {height} x {width} pixels', title_justify='left')
    table.add_column('module')
    for column in ('GMACs', 'share', 'parameters, M'):
        table.add_column(column, justify='right')
    for name, module in model.named_modules():
        level = name.count('.') + 1 if name else 0
        if not macs[name] or level > args.depth:
            continue
        parameters = sum(p.numel() for p in module.parameters()) / 1e6
        table.add_row('  ' * level + (name.rpartition('.')[2] or type(model).__name__), f'{macs[name] / 1e9:.3f}',
                      f"{100 * macs[name] / macs['']:.1f}%", f'{parameters:.3f}')
    console.print(table)
    total = sum(p.numel() for p in model.parameters()) / 1e6
    console.print(f"total: {macs[''] / 1e9:.3f} G multiply-accumulates at {height} x {width} pixels, "
                  f'{total:.3f} M parameters')


if __name__ == '__main__':
    run(main)
