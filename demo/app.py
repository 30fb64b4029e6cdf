#!/usr/bin/env python
"""A page to try token merging on photographs: vanilla beside merged, which tokens merge, and what it costs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tools'))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import copy
import os
import tempfile
from functools import cached_property, lru_cache

os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
import numpy as np
import torch
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmengine.device import get_device

from mmltm.apis.benchmarking import VANILLA, merger_of, scope_macs, variants
from mmltm.apis.cli import make_parser, warnings_only
from mmltm.apis.config import load_config
from mmltm.apis.inference import build_predictor
from mmltm.apis.profiling import network_call, time_interleaved
from mmltm.errors import UserError, run
from mmltm.models.checkpoints import check_file, is_merging, read_checkpoint
from mmltm.models.mergers import TOKEN_MERGERS
from mmltm.visualization import MergeRecorder, Sheet, draw_sheets, to_picture, view

EXAMPLES = """
examples:
  # what tools/quickstart.sh has trained
  python demo/app.py configs/mini/mask_rcnn_ltm_effvit_mini_pretrained.py work_dirs/quickstart/detector/epoch_8.pth \\
      --images data/mini_coco/val2017

  # a detector and a classifier
  python demo/app.py configs/mask_rcnn_ltm_effvit_b1_1x.py epoch_12.pth \\
      configs/imagenet/ltm_vit_s_300e_in1k.py vit_s.pth

Masks of a checkpoint are for the merger and the ratio that it was trained with; at others they start unlearnt.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('models', nargs='+', metavar='CONFIG CHECKPOINT', help='models to choose from')
    parser.add_argument('--images', metavar='DIR', help='photographs to choose from')
    parser.add_argument('--device', default=get_device(), help='such as cpu or cuda:1; default: %(default)s')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='SCORE',
                        help='draw instances with at least this score; default: %(default)s')
    parser.add_argument('--host', default='127.0.0.1', help='address to serve on; default: %(default)s')
    parser.add_argument('--port', type=int, default=7860, help='default: %(default)s')
    args = parser.parse_args()
    if len(args.models) % 2:
        parser.error('expected CONFIG CHECKPOINT pairs')
    return args


class Model:
    """A config and a checkpoint, as a vanilla network and with any merger at any ratio."""

    def __init__(self, config, checkpoint, device):
        self.cfg = load_config(config, needs=('model', 'test_dataloader'))
        check_file('checkpoint', checkpoint)
        self.checkpoint, self.device, self.own = checkpoint, device, merger_of(self.cfg)
        self.predictor = lru_cache(4)(self._predictor)

    @cached_property
    def _without_masks(self):
        checkpoint = read_checkpoint(self.checkpoint)
        state = checkpoint.get('state_dict', checkpoint)
        self._folder = tempfile.TemporaryDirectory()
        path = os.path.join(self._folder.name, 'without_masks.pth')
        torch.save(dict(state_dict={key: value for key, value in state.items() if not is_merging(key)},
                        meta=checkpoint.get('meta', {})), path)
        return path

    def learnt(self, merger, ratio):
        """Whether the checkpoint's masks are for this merger and this ratio."""
        return merger == self.own['type'] and ratio in (None, self.own.get('ratio'))

    def _predictor(self, merger, ratio):
        wanted = {merger: self.own if merger == self.own['type'] else dict(type=merger)}
        vanilla, merged = variants(self.cfg, None if merger == VANILLA else wanted, ratio)
        cfg = copy.deepcopy(self.cfg)
        cfg.model = vanilla.config if merger == VANILLA else merged.config
        path = self.checkpoint if self.learnt(merger, ratio) else self._without_masks
        return build_predictor(cfg, path, self.device)


@torch.no_grad()
def compare(model, image, merger, ratio, score_thr):
    """Both predictions, a picture of what merges, and a table of costs, for an image (H, W, 3), uint8, RGB."""
    bgr, pictures = np.ascontiguousarray(image[..., ::-1]), []
    pair = [model.predictor(VANILLA, None), model.predictor(merger, ratio)]
    with MergeRecorder(pair[1].model) as recorder:
        for predictor in pair:
            pictures.append(predictor.draw(image, predictor.predict([bgr])[0], score_thr))
    seen = to_picture(pair[1].prepare([bgr])['inputs'][0], recorder.input_size)
    sheet = Sheet(f'{merger}, ratio {ratio}', seen, [view(merge, groups=True) for merge in recorder.merges])
    inputs = torch.rand(1, 3, *recorder.input_size, device=next(pair[0].model.parameters()).device)
    macs = [scope_macs(predictor.model, 'network', recorder.input_size)[''] / 1e9 for predictor in pair]
    times = time_interleaved([network_call(predictor.model, inputs) for predictor in pair], 5, 1, inputs.device)
    origin = 'of the checkpoint' if model.learnt(merger, ratio) else 'unlearnt'
    table = ['| | vanilla | merged | quotient |', '| --- | --- | --- | --- |',
             f'| GMACs | {macs[0]:.3f} | {macs[1]:.3f} | {macs[1] / macs[0]:.3f} |',
             f'| ms, median of 5 | {1e3 * times[0].median:.1f} | {1e3 * times[1].median:.1f} '
             f'| {times[1].ratio_to(times[0]).median:.3f} |']
    size = ' x '.join(map(str, recorder.input_size))
    return *pictures, draw_sheets([sheet]), '\n'.join(table) + f'\n\nAt {size} pixels, batch 1; masks {origin}.'


def build_page(models, args):
    """The page, as gradio has it."""
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError(f'{error}: pip install gradio') from error
    images = sorted(path for path in Path(args.images).rglob('*') if path.suffix.lower() in IMG_EXTENSIONS) \
        if args.images else []

    def predict(image, name, merger, ratio):
        if image is None:
            raise gr.Error('choose a photograph first')
        try:
            return compare(models[name], image, merger, ratio, args.score_thr)
        except UserError as error:
            raise gr.Error(str(error)) from error

    first, model = next(iter(models.items()))
    with gr.Blocks(title='Token merging') as page:
        gr.Markdown('# Token merging\nA photograph through a network, and through the same network with fewer tokens.')
        with gr.Row():
            image = gr.Image(label='Photograph', height=320)
            with gr.Column():
                name = gr.Dropdown(list(models), value=first, label='Model')
                merger = gr.Dropdown(sorted(TOKEN_MERGERS.module_dict), value=model.own['type'], label='Merger')
                ratio = gr.Slider(0.2, 1, model.own.get('ratio', 0.7), step=0.05, label='Share of tokens kept')
                button = gr.Button('Predict', variant='primary', elem_id='predict')
        if images:
            gr.Examples([[str(path)] for path in images], [image], examples_per_page=12)
        with gr.Row():
            outputs = [gr.Image(label='Vanilla', elem_id='vanilla'), gr.Image(label='Merged', elem_id='merged')]
        costs = gr.Markdown(elem_id='costs')
        sheet = gr.Image(label='Which tokens merge, block by block', elem_id='sheet')
        button.click(predict, [image, name, merger, ratio], [*outputs, sheet, costs])
    return page


@warnings_only()
def main():
    args = get_args()
    pairs = zip(args.models[::2], args.models[1::2])
    models = {Path(config).stem: Model(config, checkpoint, args.device) for config, checkpoint in pairs}
    if args.images and not Path(args.images).is_dir():
        raise UserError(f'folder {args.images} does not exist')
    page = build_page(models, args)
    page.launch(server_name=args.host, server_port=args.port,
                allowed_paths=[str(Path(args.images).resolve())] if args.images else None)


if __name__ == '__main__':
    run(main)
