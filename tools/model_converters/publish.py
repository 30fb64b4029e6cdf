#!/usr/bin/env python
"""Makes a checkpoint of a training ready to publish: weights and what describes them, a hash in the name."""

import hashlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import torch
from safetensors.torch import save_file

import mmltm
from mmltm.apis.cli import make_parser
from mmltm.errors import UserError, run
from mmltm.models.checkpoints import check_file, dataset_meta, read_checkpoint, state_dict
from mmltm.models.safe_loading import META

EXAMPLES = """
examples:
  # checkpoints/mask_rcnn_ltm_effvit_b1-0a1b2c3d.safetensors
  python tools/model_converters/publish.py work_dirs/mask_rcnn_ltm_effvit_b1_1x/epoch_12.pth \\
      checkpoints/mask_rcnn_ltm_effvit_b1

  # a .pth for other projects, with what was measured
  python tools/model_converters/publish.py epoch_12.pth checkpoints/mask_rcnn_ltm_effvit_b1 --format pth \\
      --note "mask AP 35.1 on COCO val2017"

then, from where the file has been put:
  mmltm.get_model('ltm_vit_s', checkpoint='https://HOST/ltm_vit_s-0a1b2c3d.safetensors')
  mmltm.get_model('ltm_vit_s', checkpoint='hf://OWNER/REPOSITORY/ltm_vit_s-0a1b2c3d.safetensors')

Left out are the states of optimizer, schedules and log. What stays: weights, those of token merging included, names
of the classes, the config, epoch and iteration. The hash is the beginning of the file's SHA-256, which every download
is compared with.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('src', metavar='SRC', help='checkpoint of a training')
    parser.add_argument('dst', metavar='DST', help='where to, without hash and suffix')
    parser.add_argument('--format', choices=['safetensors', 'pth'], default='safetensors', help='default: %(default)s')
    parser.add_argument('--note', metavar='TEXT', help='kept with the weights')
    return parser.parse_args()


def describe(checkpoint, note):
    """What is kept beside the weights; all of it is JSON."""
    meta = checkpoint.get('meta') if isinstance(checkpoint.get('meta'), dict) else {}
    data = {key: value for key, value in dataset_meta(checkpoint).items() if key in ('classes', 'palette')}
    kept = {key: meta[key] for key in ('cfg', 'epoch', 'iter') if key in meta}
    return dict(kept, dataset_meta=data, mmltm_version=mmltm.__version__, **({'note': note} if note else {}))


def main():
    args = get_args()
    check_file('checkpoint', args.src)
    checkpoint = read_checkpoint(args.src)
    # Separate and contiguous, as the format wants tensors.
    state = {key: value.clone().contiguous() for key, value in state_dict(checkpoint).items()}
    if not state:
        raise UserError(f'checkpoint {args.src} holds no weights')
    meta = json.dumps(describe(checkpoint, args.note))
    target = Path(args.dst)
    target.parent.mkdir(parents=True, exist_ok=True)
    unnamed = target.with_name(f'.{target.name}.{args.format}')
    if args.format == 'pth':
        torch.save(dict(state_dict=state, meta=json.loads(meta)), unnamed)
    else:
        save_file(state, unnamed, metadata={'format': 'pt', META: meta})
    digest = hashlib.sha256(unnamed.read_bytes()).hexdigest()[:8]
    path = unnamed.replace(target.with_name(f'{target.name}-{digest}.{args.format}'))
    before, after = (size / 1e6 for size in (Path(args.src).expanduser().stat().st_size, path.stat().st_size))
    print(f'{len(state)} tensors in {path}: {after:.1f} MB of {before:.1f} MB')


if __name__ == '__main__':
    run(main)
