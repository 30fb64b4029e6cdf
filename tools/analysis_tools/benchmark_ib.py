"""Time and memory of the information-bottleneck step: training with it against the same masks without it."""

import json
import platform
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.visualization import Visualizer
from rich.console import Console
from rich.progress import Progress

import mmltm
from mmltm.apis.cli import add_cfg_options, make_parser, make_table, warnings_only
from mmltm.apis.config import load_config
from mmltm.apis.profiling import Timing, peak_bytes
from mmltm.engine.hooks import IBStatisticsHook, MaskTuningHook
from mmltm.errors import UserError, run
from mmltm.merging import LTM
from mmltm.models.builder import build_model
from mmltm.models.mergers import merger_config

EXAMPLES = """examples:
  python tools/analysis_tools/benchmark_ib.py configs/imagenet/ltm_efficientvit_b1_300e_in1k.py --threads 1
  # the same model with statistics of another number of classes, at another size
  python tools/analysis_tools/benchmark_ib.py configs/imagenet/ltm_efficientvit_b1_300e_in1k.py --shape 128 \\
      --num-classes 10

A step is the config's own: preprocessing, batch augmentation, forward, backward, optimizer, and frozen weights where
MaskTuningHook is among its hooks. Images are noise, no data set is read. On, IBStatisticsHook does before, within and
after the step all that it does in a training, a report every ten steps included; off, it is absent and the masks stay
as they are. Each round takes both steps, on first in one round and last in the next. CPU time of one thread
(--threads 1) suffers least from other programs.

Memory is that of tensors: peak during a step, of which statistics are the part that a model without the step does not
have. It leaves out what allocators and libraries keep for themselves. "exact" is stat_dim=None, computed.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config of a classifier with token merging')
    parser.add_argument('--batch-size', type=int, default=32, metavar='B', help='default: 32')
    parser.add_argument('--shape', nargs='+', type=int, default=[224, 224], metavar='N',
                        help='input size in pixels: side, or height and width; default: 224 224')
    parser.add_argument('--num-classes', type=int, metavar='C', help="classes; default: the config's")
    parser.add_argument('--rounds', type=int, default=20, help='counted rounds; default: 20')
    parser.add_argument('--warmup', type=int, default=2, help='rounds not counted; default: 2')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='CPU threads of torch; default: as many as torch chooses')
    parser.add_argument('--out', help='write the results to this JSON file')
    add_cfg_options(parser)
    args = parser.parse_args()
    args.shape = args.shape * 2 if len(args.shape) == 1 else args.shape
    counts = (args.batch_size, args.rounds, args.num_classes or 1, *args.shape)
    if len(args.shape) != 2 or min(counts) < 1:
        parser.error('batch size, shape, classes and rounds must be positive, the shape one or two numbers')
    return args


def configured_model(cfg, num_classes):
    """The config of the classifier and its preprocessor, both for ``num_classes`` unless None."""
    if cfg.default_scope != 'mmpretrain':
        raise UserError(f'config {cfg.filename} is of {cfg.default_scope}: only classifiers can be measured')
    model = cfg.model
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    if num_classes is not None:
        replace_key(model, 'num_classes', num_classes)
        merger = merger_config(model.backbone.get('merger'), model.backbone.pop('ratio', None))
        model.backbone.merger = merger and dict(merger, num_classes=num_classes)
    return model


def replace_key(node, key, value):
    """Give ``key`` the same value wherever it occurs in nested dicts and lists."""
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, (dict, list, tuple)):
            replace_key(child, key, value)
    if isinstance(node, dict) and key in node:
        node[key] = value


class Training:
    """Steps of a model's training on noise, without a loop: both arms of the comparison.

    Args:
        cfg (Config): Of a classifier.
        args (Namespace): The command line.
    """

    def __init__(self, cfg, args):
        self.model = build_model(configured_model(cfg, args.num_classes), cfg.default_scope).to(args.device).train()
        if not self.layers:
            raise UserError(f'config {cfg.filename}: no layer keeps statistics: set model.backbone.merger.num_classes')
        # All that hooks ask of a runner.
        self.runner = SimpleNamespace(
            model=self.model, hooks=[], register_hook=lambda hook: None, iter=0, visualizer=Visualizer(),
            logger=MMLogger.get_current_instance())
        self.device, self.batch_size, self.shape = torch.device(args.device), args.batch_size, args.shape
        tunes_masks = any(str(hook['type']).endswith('MaskTuningHook') for hook in cfg.get('custom_hooks') or [])
        self.tuning = MaskTuningHook() if tunes_masks else None
        if self.tuning:
            self.tuning.before_train(self.runner)
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self._fill_statistics()
        # An epoch without end: the steps of one are measured, not what comes between two.
        self.hook = self._hook(interval=10**9)
        self._seen = 0

    def _hook(self, interval):
        hook = IBStatisticsHook(interval=interval, initial_images=0)  # there is no training set
        hook.before_run(self.runner)
        hook.before_train(self.runner)
        hook.after_train(self.runner)
        return hook

    @property
    def layers(self):
        return {name: module for name, module in self.model.named_modules()
                if isinstance(module, LTM) and module.stats is not None}

    @property
    def num_classes(self):
        return next(iter(self.layers.values())).stats.num_classes

    def _fill_statistics(self):
        """Two epochs of one batch, whose soft labels give every class its centroid and its Q."""
        hook = self._hook(interval=1)
        hook.before_train(self.runner)
        for _ in range(2):
            data = self._batch()
            for sample in data['data_samples']:
                sample.set_gt_score(torch.randn(self.num_classes).mul(3).softmax(0))
            hook.before_train_iter(self.runner, 0)
            with torch.no_grad():
                self.model(**self.model.data_preprocessor(data, True), mode='loss')
            hook.after_train_iter(self.runner, 0)
            self.runner.iter += 1
        hook.after_train(self.runner)
        self.runner.iter = 0

    def _batch(self, first=0):
        from mmpretrain.structures import DataSample
        labels = [(first + index) % self.num_classes for index in range(self.batch_size)]
        images = torch.randint(256, (self.batch_size, 3, *self.shape), dtype=torch.uint8)
        return dict(inputs=images, data_samples=[DataSample().set_gt_label(label) for label in labels])

    def step(self, on, measure):
        """One training step.

        Args:
            on (bool): With the information-bottleneck step.
            measure (callable): Calls what is given to it and returns a measurement.
        """
        data = self._batch(self._seen)
        if on:
            self.hook.before_train(self.runner)

        def call():
            if on:
                self.hook.before_train_iter(self.runner, 0, data)
            if self.tuning:
                self.tuning.before_train_iter(self.runner, 0, data)
            losses = self.model.train_step(data, self.optim_wrapper)
            if on:
                self.hook.after_train_iter(self.runner, 0, data, losses)

        result = measure(call, self.device)
        if on:
            self.hook.after_train(self.runner)
            self.runner.iter += 1
            self._seen += self.batch_size
        return result

    def state_bytes(self):
        """Parameters, buffers and the optimizer's state, in bytes."""
        states = (value for state in self.optim_wrapper.optimizer.state.values() for value in state.values())
        tensors = (*self.model.parameters(), *self.model.buffers(), *filter(torch.is_tensor, states))
        return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def times(call, device):
    """Wall clock and CPU time of a call, in seconds."""
    def now():
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()

    begin = now()
    call()
    return [after - before for after, before in zip(now(), begin)]


def measure_time(training, rounds, warmup, progress):
    """Results by clock: medians and quartiles of both arms, and their ratio."""
    seconds = {True: [], False: []}
    for index in range(warmup + rounds):
        for on in ((True, False) if index % 2 else (False, True)):
            taken = training.step(on, times)
            if index >= warmup:
                seconds[on].append(taken)
        progress()
    results = {}
    for column, clock in enumerate(('wall', 'cpu')):
        on, off = (Timing([taken[column] for taken in seconds[arm]]) for arm in (True, False))
        results[clock] = dict(
            on_ms=1e3 * on.median, on_quartiles_ms=[1e3 * q for q in on.quartiles],
            off_ms=1e3 * off.median, off_quartiles_ms=[1e3 * q for q in off.quartiles],
            ratio_of_medians=on.median / off.median, ratio_of_means=sum(on.seconds) / sum(off.seconds),
            ratio_quartiles=list(on.ratio_to(off).quartiles))
    return results


def measure_memory(training):
    """Bytes of a step at its peak, on and off, and of the statistics of every layer."""
    training.runner.iter = 0  # a step that is reported, which takes the most
    rise = {on: training.step(on, peak_bytes) for on in (True, False)}
    layers = []
    for name, layer in training.layers.items():
        channels = layer.stats.embed_dims
        with torch.device('meta'):
            exact = LTM(layer.source, layer.target, channels, num_classes=training.num_classes, stat_dim=None)
        layers.append(dict(
            layer=name, source=list(layer.source), target=list(layer.target), channels=channels,
            statistics_bytes=statistics_bytes(layer), exact_bytes=statistics_bytes(exact)))
    statistics = sum(layer['statistics_bytes'] for layer in layers)
    state = training.state_bytes()
    return dict(
        peak_on_bytes=state + rise[True], peak_off_bytes=state - statistics + rise[False],
        statistics_bytes=statistics, exact_bytes=sum(layer['exact_bytes'] for layer in layers), layers=layers)


def statistics_bytes(layer):
    return sum(buffer.nbytes for buffer in layer.buffers())


def show(setting, timing, memory, console):
    console.print(', '.join(f'{key} {value}' for key, value in setting.items()))
    table = make_table('training step', (
        'clock', 'on, ms', 'quartiles', 'off, ms', 'quartiles', 'ratio of medians', 'ratio of means',
        "quartiles of the rounds' ratios"))
    for clock, row in timing.items():
        table.add_row(
            clock, f"{row['on_ms']:.1f}", '{:.1f}-{:.1f}'.format(*row['on_quartiles_ms']), f"{row['off_ms']:.1f}",
            '{:.1f}-{:.1f}'.format(*row['off_quartiles_ms']), f"{row['ratio_of_medians']:.4f}",
            f"{row['ratio_of_means']:.4f}", '{:.3f}-{:.3f}'.format(*row['ratio_quartiles']))
    console.print(table)
    table = make_table('statistics', ('layer', 'window', 'channels', 'MB', 'exact, MB'), texts=2)
    for layer in memory['layers']:
        table.add_row(
            layer['layer'], '{}x{} to {}x{}'.format(*layer['source'], *layer['target']), str(layer['channels']),
            f"{layer['statistics_bytes'] / 1e6:.1f}", f"{layer['exact_bytes'] / 1e6:.1f}")
    table.add_section()
    table.add_row('total', '', '', f"{memory['statistics_bytes'] / 1e6:.1f}", f"{memory['exact_bytes'] / 1e6:.1f}")
    console.print(table)
    on, off = memory['peak_on_bytes'] / 1e6, memory['peak_off_bytes'] / 1e6
    console.print(f'peak memory of a step: {on:.1f} MB on, {off:.1f} MB off without the statistics, '
                  f'difference {on - off:.1f} MB')


@warnings_only()  # the optimizer lists all parameters
def main():
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    console = Console(width=160)
    training = Training(load_config(args.config, args.cfg_options, needs=('optim_wrapper', )), args)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task('rounds', total=args.warmup + args.rounds)
        timing = measure_time(training, args.rounds, args.warmup, lambda: progress.advance(task))
    memory = measure_memory(training)
    where = torch.cuda.get_device_name() if training.device.type == 'cuda' else (
        f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads')
    setting = dict(
        config=args.config, batch_size=args.batch_size, shape=args.shape, num_classes=training.num_classes,
        masks_only=training.tuning is not None, device=args.device, hardware=where, rounds=args.rounds,
        torch=torch.__version__, mmltm=mmltm.__version__)
    show(setting, timing, memory, console)
    if args.out:
        Path(args.out).write_text(json.dumps(dict(setting=setting, time=timing, memory=memory), indent=1) + '\n')


if __name__ == '__main__':
    run(main)
