#!/usr/bin/env python
"""Draws which tokens of an image every block merges: the weights of a target token, and the groups."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from rich.console import Console
from rich.progress import Progress

from mmltm.apis.cli import CfgOptions, add_cfg_options, make_parser, warnings_only
from mmltm.apis.config import load_config
from mmltm.apis.data_root import leaf_datasets
from mmltm.apis.preflight import check_ratio
from mmltm.errors import UserError, run
from mmltm.models.builder import load_model
from mmltm.models.checkpoints import check_file
from mmltm.visualization import MergeRecorder, Sheet, draw_sheets, to_picture, view

EXAMPLES = """examples:
  # all blocks, a column each, with the most representative token of each
  python tools/visualization/visualize_merging.py dog.jpg configs/imagenette/ltm_vit_t_p8_imagenette128.py \\
      epoch_30.pth --out-dir pictures

  # what happens to one place of the image, and which tokens go together; before and after training
  python tools/visualization/visualize_merging.py dog.jpg configs/imagenette/ltm_vit_t_p8_imagenette128.py \\
      --compare configs/imagenette/ltm_vit_t_p8_imagenette128.py epoch_30.pth --labels untrained trained \\
      --point 0.5 0.4 --groups --out-dir pictures

  # one token of one block, by its row and column
  python tools/visualization/visualize_merging.py dog.jpg configs/imagenette/ltm_vit_t_p8_imagenette128.py \\
      epoch_30.pth --block 3 --token 2 5 --out-dir pictures

Weights lead from the full grid of a stage to the target token, through all merges of the stage so far; outlined are
the cells that give the target at least half as much as the one that gives it most. The most representative token is
the one whose feature is nearest, by angle, to the mean of the image's tokens. Without a checkpoint weights are
random, and masks unlearnt.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('image', help='image file; the test pipeline of the config resizes and crops it')
    parser.add_argument('config', help='config of a model that merges tokens')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file or URL; default: random weights')
    parser.add_argument('--out-dir', required=True, metavar='DIR', help='folder for the pictures')
    parser.add_argument('--block', help='one block only: its number, from 0, or its name as the pictures give it')
    target = parser.add_mutually_exclusive_group()
    target.add_argument('--token', nargs='+', type=int, metavar='N',
                        help="target token of --block: row and column of the block's merged grid, or an index")
    target.add_argument('--point', nargs=2, type=float, metavar=('X', 'Y'),
                        help='target: the token that takes most of this point, in shares of the width and height of '
                        'the prepared image')
    parser.add_argument('--groups', action='store_true',
                        help='draw which source tokens go into the same token, too; slow for large maps')
    parser.add_argument('--compare', nargs='+', metavar='CONFIG [CHECKPOINT]', help='a second model to draw')
    parser.add_argument('--compare-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE',
                        help='override settings of the second config only, e.g. model.backbone.ratio=0.5')
    parser.add_argument('--labels', nargs='+', help='titles of the models; default: names of their files')
    parser.add_argument('--backends', nargs='+', metavar='TYPE',
                        help='visualization backends, e.g. LocalVisBackend TensorboardVisBackend WandbVisBackend; '
                        "default: the config's")
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.compare and len(args.compare) > 2:
        parser.error('--compare takes a config and, if need be, a checkpoint')
    if args.compare_options and not args.compare:
        parser.error('--compare-options needs --compare')
    if args.labels and len(args.labels) != (2 if args.compare else 1):
        parser.error('--labels takes one title for each model')
    if args.token and (len(args.token) > 2 or not args.block):
        parser.error('--token takes a row and a column, or an index, of the block that --block names')
    if args.point and not all(0 <= value < 1 for value in args.point):
        parser.error('--point takes two shares in [0, 1)')
    return args


def models(args):
    """Title, config and checkpoint of every model."""
    jobs = [(args.config, args.checkpoint, {})]
    if args.compare:
        name, checkpoint = (*args.compare, None)[:2]
        jobs.append((name, checkpoint, args.compare_options or {}))
    for index, (name, checkpoint, options) in enumerate(jobs):
        cfg = load_config(name, {**args.cfg_options, **options}, needs=('model', 'test_dataloader'))
        check_ratio(cfg)
        if checkpoint:
            check_file('checkpoint', checkpoint)
        settings = [f'{key.rpartition(".")[2]}={value}' for key, value in options.items()]
        parts = [Path(name).stem, Path(checkpoint).stem if checkpoint else 'random weights', *settings]
        yield args.labels[index] if args.labels else ', '.join(parts), cfg, checkpoint


def load_image(cfg, path):
    """A batch of one image, as the config's test pipeline prepares it."""
    init_default_scope(cfg.default_scope)
    pipeline = next((dataset.pipeline for _, dataset in leaf_datasets(cfg, ['test']) if 'pipeline' in dataset), None)
    if pipeline is None:
        raise UserError(f'config {cfg.filename} has no test_dataloader with a pipeline, which says how to '
                        'prepare images')
    return pseudo_collate([Compose(pipeline)(dict(img_path=path, img_id=0))])


def draw_model(title, cfg, checkpoint, args):
    """The sheet of one model."""
    batch = load_image(cfg, args.image)
    torch.manual_seed(0)
    model = load_model(cfg, checkpoint)
    with MergeRecorder(model) as recorder, torch.no_grad():
        model.backbone(model.data_preprocessor(batch, False)['inputs'])
    if not recorder.merges:
        raise UserError(f'{checkpoint} was saved before merging began (t_warm): nothing is merged')
    chosen = recorder.merges if args.block is None else [find_block(recorder.merges, args.block)]
    token = find_token(chosen[0], args.token) if args.token else None
    picture = to_picture(batch['inputs'][0], recorder.input_size)
    return Sheet(title, picture, [view(merge, token=token, point=args.point, groups=args.groups) for merge in chosen])


def find_block(merges, wanted):
    """The merge of a block, by number or name."""
    names = [merge.name for merge in merges]
    if wanted in names:
        return merges[names.index(wanted)]
    if wanted.isdecimal() and int(wanted) < len(names):
        return merges[int(wanted)]
    raise UserError(f'--block {wanted} is none of the {len(names)} blocks: expected 0 to {len(names) - 1}, or one of '
                    f'{", ".join(names)}')


def find_token(merge, place):
    """Index of a token, from its row and column or from itself."""
    height, width = merge.composition.merged_grid
    if len(place) == 1:
        if not 0 <= place[0] < height * width:
            raise UserError(f'--token {place[0]} is outside the {height * width} tokens that {merge.name} leaves')
        return place[0]
    row, column = place
    if not (0 <= row < height and 0 <= column < width):
        raise UserError(f'--token {row} {column} is outside the {height} x {width} tokens that {merge.name} leaves')
    return row * width + column


def save(picture, name, args, cfg):
    """Hand the picture to the backends."""
    kinds = [dict(type=kind) for kind in args.backends or ()]
    configured = (cfg.get('visualizer') or {}).get('vis_backends')
    backends = kinds or configured or [dict(type='LocalVisBackend')]
    try:
        visualizer = Visualizer(vis_backends=[{**backend, 'save_dir': args.out_dir} for backend in backends])
    except (ImportError, KeyError) as error:
        raise UserError(f'cannot use the visualization backends: {error}') from error
    visualizer.add_image(name, picture)
    visualizer.close()


@warnings_only()
def main():
    args = parse_args()
    if not Path(args.image).is_file():
        raise UserError(f'image {args.image} does not exist')
    jobs, console = list(models(args)), Console()
    with Progress(console=console, transient=True) as progress:
        sheets = [draw_model(*job, args) for job in progress.track(jobs, description='drawing')]
    name = f'{Path(args.image).stem}_merging'
    save(draw_sheets(sheets), name, args, jobs[0][1])
    for sheet in sheets:
        console.print(f'{sheet.title}: {len(sheet.views)} blocks', highlight=False)
    console.print(f'Picture {name} in {args.out_dir}', highlight=False)


if __name__ == '__main__':
    run(main)
