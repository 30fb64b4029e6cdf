#!/usr/bin/env python
"""Converts weights of timm, mit-han-lab/efficientvit, mmpretrain or mmdet into a checkpoint for mmltm."""

import os.path as osp
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

from mmltm.apis.cli import make_parser
from mmltm.errors import UserError, run
from mmltm.models.convert import SOURCES, convert, read_weights, write_checkpoint

EXAMPLES = """
examples:
  # DeiT-S of timm or of its authors
  python tools/model_converters/convert_weights.py deit_small.pth checkpoints/vit_s.pth --model ltm_vit_s

  # the backbone of a detector of mmdet
  python tools/model_converters/convert_weights.py mask_rcnn_swin-t.pth checkpoints/swin_t.pth --model ltm_swin_t

then, with the same file for a model with and without token merging:
  python tools/train.py CONFIG --cfg-options load_from=checkpoints/vit_s.pth
  mmltm.get_model('ltm_vit_s', checkpoint='checkpoints/vit_s.pth')
  backbone=dict(..., init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vit_s.pth', prefix='backbone.'))

Every key without counterpart is printed. Masks are listed apart: only checkpoints of mmltm have them; without, they
start unlearnt. MobileViT's stem is turned from timm's RGB to the BGR of mmpretrain's data preprocessor.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('src', metavar='SRC', help='checkpoint: .safetensors, or .pth, .pt, .bin of torch.save')
    parser.add_argument('dst', metavar='DST', help='checkpoint to write')
    parser.add_argument(
        '--model', required=True, metavar='NAME',
        help='mobilevit_{xxs,xs,s}, efficientvit_{b0,b1,b2,b3}, vit_{t,s,b} or swin_{t,s,b}, or the same with ltm_ '
        'in front, which lists the masks that are missing')
    parser.add_argument(
        '--source', default='auto', choices=['auto', *SOURCES],
        help='whose names SRC has; default: told by the names')
    parser.add_argument(
        '--partial', action='store_true', help='write what matches even if something does not, such as a head')
    return parser.parse_args()


def print_keys(title, keys):
    if keys:
        print(f'{title} ({len(keys)}):', *keys, sep='\n  ')


def main():
    args = get_args()
    if osp.realpath(args.src) == osp.realpath(args.dst):
        raise UserError(f'SRC and DST are the same file, {args.src}: name another DST')
    state, within = read_weights(args.src)
    result = convert(state, args.model, args.source)
    print(f'{args.src}: weights of {result.source}' + (f' below {within}' if within else ''))
    print_keys("left out, for they are not the backbone's", result.left_out)
    print_keys('in SRC only', result.unused)
    print_keys('in the model only', result.missing)
    print_keys('of another shape', result.mismatched)
    print_keys('masks, which start unlearnt', result.masks)
    matched = f'{len(result.state)} keys of {args.model}'
    if not (result.complete or args.partial):
        raise UserError(f'only {matched} match, see above: nothing written. --partial writes them nonetheless')
    if not result.state:
        raise UserError(f'no key of {args.src} matches {args.model}: nothing written')
    write_checkpoint(result.state, args.dst, model=args.model, source=result.source, file=osp.basename(args.src))
    print(f'{matched} written to {args.dst}')


if __name__ == '__main__':
    run(main)
