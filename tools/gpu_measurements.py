"""All that is worth measuring on a GPU, in minutes: what matters most first, and what fails ends nothing else."""

import os
import subprocess
import sys
import time
from pathlib import Path

import _bootstrap  # noqa: F401, I001  (first: it finds the package)

from mmltm.apis.cli import make_parser
from mmltm.errors import run

EXAMPLES = """examples:
  python tools/gpu_measurements.py OUT --data-root data/imagenette128
  python tools/gpu_measurements.py OUT --rehearse          # the same commands on a CPU, tiny: do they run?

1. Inference at batch 128 of the paper's Table 1: LTM by image and static, ToMe, ToFu, LTMP and vanilla, eager and as
CUDA graphs, in float16 and TF32.  2. Mask R-CNN whole.  3. Training steps with and without the information-bottleneck
step.  4. With --data-root, 200 steps with AMP of one backbone of each family, stopped by the first NaN.  5. Compiled
inference. OUT gets results as JSON and a log of each command; a repeated call goes on.
"""

TOOLS = Path(__file__).resolve().parent
MODELS = ['vit_s', 'swin_t', 'efficientvit_b1', 'mobilevit_s', 'vit_b', 'swin_b', 'mobilevit_xs']
DETECTORS = ['effvit_b1', 'swin_t', 'vit_b']


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('out', type=Path, metavar='OUT', help='folder of results')
    parser.add_argument('--data-root', metavar='DIR', help='Imagenette at 128 pixels')
    parser.add_argument('--rehearse', action='store_true', help='on a CPU, the smallest of everything')
    return parser.parse_args()


def commands(args):
    """Name, seconds at most, tool and arguments."""
    device, batch, models, detectors = 'cuda', 128, MODELS, DETECTORS
    precisions, graph, amp = dict(fp16=['--amp'], fp32=['--tf32']), ['cudagraph'], ['--amp']
    size, large, loop = [224, 224], [800, 1344], ['--rounds', 10, '--warmup', 2]
    if args.rehearse:
        device, batch, models, detectors = 'cpu', 2, ['vit_t'], ['effvit_b1']
        precisions, graph, amp = dict(fp32=[]), [], []
        size, large, loop = [64, 64], [64, 96], ['--rounds', 1, '--warmup', 0]
    inference, loop = 'analysis_tools/benchmark.py', ['--device', device, *loop]
    classifiers = {model: f'configs/imagenet/ltm_{model}_300e_in1k.py' for model in models}

    def images(mergers=('LTM', 'LTM:mode=static'), runtimes=('eager', ), shape=size, batch=batch):
        return ['--mergers', *mergers, '--runtime', *runtimes, '--shape', *shape, '--batch-size', batch, *loop,
                '--max-time', 8]

    for precision, options in precisions.items():
        yield f'inference_{precision}', 240, inference, [
            *classifiers.values(), '--scope', 'backbone', *images(('LTM', 'LTM:mode=static', 'ToMe', 'ToFu', 'LTMP'),
                                                                  ['eager', *graph]),
            *options, '--out', args.out / f'gpu_latency_{precision}.json']
    yield 'mask_rcnn', 120, inference, [
        *(f'configs/mask_rcnn_ltm_{model}_1x.py' for model in detectors), *images(shape=large, batch=1),
        *precisions['fp32'], '--out', args.out / 'gpu_detectors.json']
    for model, config in list(classifiers.items())[:4]:
        for mode in ('instance', 'static'):
            yield f'step_{model}_{mode}', 60, 'analysis_tools/benchmark_ib.py', [
                config, '--batch-size', batch, '--shape', *size, *loop, '--out',
                args.out / f'gpu_step_{model}_{mode}.json', '--cfg-options', f'model.backbone.merger.mode={mode}']
    for model in ('efficientvit_b0', 'mobilevit_xxs', 'swin_t', 'vit_t_p8') if args.data_root else ():
        yield f'amp_{model}', 90, 'train.py', [
            f'configs/imagenette/ltm_{model}_imagenette128.py', *amp, '--data-root', Path(args.data_root).resolve(),
            '--work-dir', args.out / f'amp_{model}', '--cfg-options-new',
            'default_hooks.check.type=mmdet.CheckInvalidLossHook', 'default_hooks.check.interval=1', '--cfg-options',
            'train_cfg.max_epochs=1', 'custom_hooks.0.t_warm=0', 'val_cfg=None', 'val_dataloader=None',
            'val_evaluator=None', 'default_hooks.checkpoint=None',
            *(['train_dataloader.batch_size=2', 'train_dataloader.dataset.indices=4'] if args.rehearse else
              ['train_dataloader.batch_size=47', 'train_dataloader.num_workers=8'])]  # 201 steps
    if not args.rehearse:
        yield 'inference_compiled', 300, inference, [
            *list(classifiers.values())[:4], '--scope', 'backbone', *images(runtimes=['eager', 'compile']), '--amp',
            '--out', args.out / 'gpu_compile_fp16.json']


def attempt(limit, tool, arguments, log):
    """Runs a tool: what has come of it, in a word or two."""
    with log.open('w') as output:
        try:
            status = subprocess.run([sys.executable, '-W', 'ignore', tool, *map(str, arguments)], stdout=output,
                                    stderr=subprocess.STDOUT, timeout=limit, cwd=TOOLS.parent).returncode
        except subprocess.TimeoutExpired:
            return f'more than {limit} s'
    return f'failed, see {log.name}' if status else 'done'


def main():
    args, begin = parse_args(), time.monotonic()
    os.environ.setdefault('OMP_NUM_THREADS', '2')
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, limit, tool, arguments in commands(args):
        outcome = attempt(limit, TOOLS / tool, arguments, args.out / f'{name}.log')
        print(f'[{time.monotonic() - begin:4.0f} s] {name}: {outcome}', flush=True)


if __name__ == '__main__':
    run(main)
