#!/usr/bin/env python
"""Information bottleneck of every layer of given checkpoints: the LTM paper's Figure 2 and Tables 6 to 8."""

import copy
from pathlib import Path
from statistics import fmean

import pandas as pd
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress
from torch.utils.data import Subset

from harness.cell import short_hash
from harness.ib_curves import TITLES, depth_colors, plot_over_layers, position, ticks_for
from harness.markdown import number, table
from harness.measures import measure_together, spread_evenly
from harness.resolve import content_hash
from harness.result_file import load_result, save_result
from mmltm.apis.cli import CfgOptions, add_cfg_options, make_parser
from mmltm.apis.config import load_config
from mmltm.apis.data_root import leaf_datasets
from mmltm.apis.dataset_checks import check_datasets
from mmltm.apis.preflight import check_ratio
from mmltm.errors import TRACEBACK_SWITCH, UserError, run, summary
from mmltm.evaluation import IBMetric
from mmltm.models.builder import load_model, vanilla_twin
from mmltm.models.checkpoints import check_file, is_zoo
from mmltm.visualization.figures import new_figure

EXAMPLES = """examples:
  python tools/experiments/ib_report.py configs/imagenette/ltm_vit_t_p8_imagenette128.py epoch_10.pth epoch_30.pth \\
      --labels "10 epochs" "30 epochs" --vanilla vanilla.pth --out-dir work_dirs/ib

  # on the training images, 2000 of them spread evenly, with the paper's inverse temperature
  python tools/experiments/ib_report.py configs/imagenette/ltm_vit_t_p8_imagenette128.py epoch_30.pth --split train \\
      --max-images 2000 --metric-options beta=1 --out-dir work_dirs/ib_train

Writes ib.png, ib.json, ib.csv and ib.md. A run takes over what ib.json already holds for the same checkpoint, model,
data and metric, so it can be interrupted, and extended by further checkpoints. Every checkpoint takes two passes over
the images. Layers of merging models are their mergers, those of vanilla ones the blocks' MLPs (in EfficientViT, the
attention modules), where tokens before and after merging are the same.
"""

FILE = 'ib'
KEYS = ('ib_loss', 'ib_bound', 'mi_input', 'mi_label')


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config of the model, with or without merging')
    parser.add_argument('checkpoints', nargs='+', metavar='CHECKPOINT', help='checkpoint file or URL of that model')
    parser.add_argument('--labels', nargs='+', metavar='LABEL', help='one for each checkpoint; default: its name')
    parser.add_argument('--vanilla', metavar='CHECKPOINT', help="a checkpoint of the config's model without merging")
    parser.add_argument('--out-dir', required=True, metavar='DIR', help='folder for the results')
    parser.add_argument('--split', choices=['test', 'train'], default='test',
                        help='images to measure; those for training pass the test pipeline, too; default: test')
    parser.add_argument('--max-images', type=int, metavar='N',
                        help='measure N images only, spread evenly over the data set; default: all')
    parser.add_argument('--metric-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', default={},
                        help='arguments of mmltm.IBMetric, e.g. beta=1 stat_dim=None layers="backbone.*ffn"; '
                             'restored=True brings the tokens of all mergers back to the full grid, where different '
                             'ones can be compared')
    parser.add_argument('--data-root', metavar='DIR', help='folder that every dataset of the config shall read from')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.labels and len(args.labels) != len(args.checkpoints):
        parser.error(f'--labels takes one label for each of the {len(args.checkpoints)} checkpoints')
    if args.max_images is not None and args.max_images < 1:
        parser.error('--max-images must be positive')
    return args


def jobs_of(args, cfg):
    """Label, config and checkpoint of every model to measure, the vanilla one first."""
    labels = args.labels or [Path(path).stem for path in args.checkpoints]
    if len(set(labels)) < len(labels):
        labels = args.labels or [str(Path(path).with_suffix('')) for path in args.checkpoints]
    jobs = [(label, cfg, path) for label, path in zip(labels, args.checkpoints)]
    if args.vanilla:
        vanilla = copy.deepcopy(cfg)
        try:
            vanilla.model = vanilla_twin(cfg)
        except ValueError as error:
            raise UserError(f'--vanilla: {error}; give its checkpoints without the option') from error
        jobs.insert(0, ('vanilla', vanilla, args.vanilla))
    for label, _, path in jobs:
        check_file('checkpoint', path)
        if [job[0] for job in jobs].count(label) > 1:
            raise UserError(f'two checkpoints have the label {label!r}: tell them apart by --labels')
    return jobs


def loader_config(cfg, split):
    """The test loader, over the images of ``split``."""
    loader = copy.deepcopy(cfg.test_dataloader)
    if split == 'train':
        test = next(leaf for _, leaf in leaf_datasets(cfg, ['test']))
        dataset = copy.deepcopy(cfg.train_dataloader.dataset)
        while 'dataset' in dataset:  # wrappers that repeat or mix images
            dataset = dataset.dataset
        loader.dataset = dataset
        for _, leaf in leaf_datasets(dict(train_dataloader=loader), ['train']):
            leaf.pipeline = copy.deepcopy(test.pipeline)
    return loader


def build_loader(cfg, split, max_images):
    """The loader and the data set's meta information."""
    loader = loader_config(cfg, split)
    init_default_scope(cfg.default_scope)
    try:
        dataset = DATASETS.build(loader.dataset)
        meta, count = dataset.metainfo, len(dataset)
        if max_images is not None and max_images < count:
            dataset = Subset(dataset, spread_evenly(max_images, count))
        return Runner.build_dataloader({**loader, 'dataset': dataset}, seed=0), meta
    except Exception as error:  # of whatever kind a constructor raises
        raise UserError(f'cannot build the {split} data of {cfg.filename}: {summary(error)} ({TRACEBACK_SWITCH}=1 '
                        'shows where)') from error


def settings_of(args, cfg, checkpoint):
    """All that decides the numbers of a checkpoint; results with equal settings are equal."""
    parts = [cfg.model, cfg.get('data_preprocessor'), loader_config(cfg, args.split).dataset]
    return dict(
        checkpoint=checkpoint if is_zoo(checkpoint) else content_hash(checkpoint), split=args.split,
        max_images=args.max_images, metric=dict(args.metric_options), config=short_hash(parts))


def measure(args, cfg, checkpoint, progress, task):
    """Values of every layer, by its name."""
    model = load_model(cfg, checkpoint)
    loader, meta = build_loader(cfg, args.split, args.max_images)
    try:
        metric = IBMetric(**args.metric_options)
    except (TypeError, ValueError) as error:
        raise UserError(f'--metric-options: {error}') from error
    metric.dataset_meta = meta
    progress.update(task, total=2 * len(loader), completed=0)
    model.register_forward_hook(lambda *_: progress.advance(task))
    try:
        return dict(images=len(loader.dataset), layers=measure_together([metric], model, loader)[0])
    except ValueError as error:
        raise UserError(f'checkpoint {checkpoint}: {error}') from error


def collect(args, jobs, path, console):
    """Results of all jobs, in their order; each is in the file as soon as it is there."""
    known, results = load_result(path)['results'] if path.is_file() else [], []
    with Progress(console=console, transient=True) as progress:
        for label, cfg, checkpoint in jobs:
            settings = settings_of(args, cfg, checkpoint)
            result = next((entry for entry in known if entry['settings'] == settings), None)
            if result is None:
                task = progress.add_task(label, total=None)
                measured = measure(args, cfg, checkpoint, progress, task)
                result = dict(settings=settings, file=checkpoint, **measured)
                known.append(result)
            else:
                console.print(f'{label}: taken from {path}', highlight=False)
            result['label'] = label
            results.append(result)
            save_result(path, dict(kind='ib', results=known))
    return results


def by_position(result, key):
    return {position(name): values[key] for name, values in result['layers'].items()}


def draw(results, path):
    """IB loss and IB bound over the layers, a line a checkpoint, the vanilla one dashed."""
    figure = new_figure(11, 4.2, dpi=120)
    trained = [result for result in results if result['label'] != 'vanilla']
    colors = iter(depth_colors(len(trained)))
    styles = [dict(color='gray', linestyle='--') if result['label'] == 'vanilla' else dict(color=next(colors))
              for result in results]
    for axes, key in zip(figure.subplots(1, 2), ('ib_loss', 'ib_bound')):
        curves = {result['label']: by_position(result, key) for result in results}
        plot_over_layers(axes, curves, key, styles)
    axes.legend(fontsize='small')
    figure.savefig(path)


def write_csv(results, path):
    rows = [dict(label=result['label'], layer=ticks_for([position(name)])[0], module=name, **values)
            for result in results for name, values in result['layers'].items()]
    pd.DataFrame(rows, columns=['label', 'layer', 'module', *KEYS, 'c0']).to_csv(path, index=False)


def to_markdown(results):
    """A table a quantity: a row for every layer, a column for every checkpoint."""
    layers = sorted({position(name) for result in results for name in result['layers']})
    header = ['layer', *(result['label'].replace('|', '/') for result in results)]
    parts = []
    for key in KEYS:
        curves = [by_position(result, key) for result in results]
        rows = [[tick, *(number(curve.get(layer), 4) for curve in curves)]
                for tick, layer in zip(ticks_for(layers), layers)]
        rows.append(['mean', *(number(fmean(curve.values()), 4) for curve in curves)])
        parts += [f'**{TITLES[key]}**', table(header, rows, align='lr')]
    counts = ', '.join(f'{result["label"]}: {result["images"]}' for result in results)
    return '\n\n'.join([*parts, f'Images measured, {results[0]["settings"]["split"]} split: {counts}.\n'])


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, args.data_root,
                      needs=('model', 'test_dataloader', f'{args.split}_dataloader'))
    jobs, out = jobs_of(args, cfg), Path(args.out_dir)
    check_ratio(cfg)
    check_datasets(cfg, (args.split, ))
    MMLogger.get_current_instance().setLevel('WARNING')
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    results = collect(args, jobs, out / f'{FILE}.json', console)
    draw(results, out / f'{FILE}.png')
    write_csv(results, out / f'{FILE}.csv')
    markdown = to_markdown(results)
    (out / f'{FILE}.md').write_text(markdown)
    console.print(Markdown(markdown))
    console.print(f'Written: {FILE}.png, {FILE}.json, {FILE}.csv and {FILE}.md in {out}', highlight=False)


if __name__ == '__main__':
    run(main)
