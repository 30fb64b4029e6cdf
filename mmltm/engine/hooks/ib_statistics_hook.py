"""Algorithm 1 of the paper in mmengine's training loops.

Wang and Yang, "Efficient Visual Transformer by Learnable Token Merging", arXiv 2407.15219. Departure: only the first
statistics come from a pass of their own, over a share of the training set; those of an epoch are gathered during its
training steps.
"""

import inspect
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from torch import nn

from mmltm.engine.hooks.random_state_hook import RandomStateHook
from mmltm.engine.initial_pass import initial_pass
from mmltm.engine.runner_utils import (
    is_epoch_based,
    is_parallel,
    iterations_per_pass,
    resumes,
    saves_after_iter,
    unwrapped_model,
    wait_for_learning_only,
)
from mmltm.errors import UserError
from mmltm.ib import BatchTargets, BottleneckReport, ClassCentroids, ClassStatistics, LabelMaps, ObjectBoxes
from mmltm.merging import LTM
from mmltm.registry import HOOKS
from mmltm.structures.class_distribution import class_distribution, label_maps, object_boxes


@HOOKS.register_module()
class IBStatisticsHook(Hook):
    """Keeps the statistics of all information-bottleneck layers: one switch for training from scratch.

    It hands the classes of every batch, after batch augmentation, to the mask modules; turns their sums into statistics
    at the end of every epoch, over all ranks; leaves merging off for ``t_warm`` epochs, after which masks come from the
    statistics of the epoch before; and logs, per layer and epoch, IB loss, IB bound and the size of the mask step, to
    the logger and to the visualizer's backends.

    A model without statistics sees ``initial_images`` training images first, twice, in evaluation mode
    (:func:`~mmltm.engine.initial_pass.initial_pass`): for the centroids, then for Q(a|y), so that masks take their
    steps from the first iteration on. The pass is left out where there is a warm-up, whose first two epochs give the
    same, and where statistics have been loaded; a run that is interrupted in it begins it again. Without a pass the
    first epoch gives centroids, the second Q(a|y), and masks take their first step in the third.

    All state is in the model's checkpoints. A :class:`RandomStateHook` is registered if there is none, so that a
    resumed run continues bit for bit (see there for workers). Resuming from a checkpoint whose statistics are of other
    classes or another grid is an error; ``load_from`` such a checkpoint starts them anew.

    A detector may instead keep what a classifier has learnt, as in the paper: masks, steps and statistics stay as they
    are loaded, whatever the detector's classes, where ``num_classes`` of the merger is the classifier's, as
    ``pretrained`` of the backbones sets it, or with ``update_statistics=False``.

    With ``num_classes=None`` in the merger's config, or without LTM, the hook says so in one line and does nothing.

    Args:
        t_warm (int): Epochs without merging. Defaults to 0.
        interval (int, optional): Iterations that count as an epoch. Defaults to the epochs of an epoch-based loop, and
            to as many iterations as the ranks need for one pass over the training set in others.
        fit_projection (bool): Take the principal directions of the first batch as projection of the statistics, in
            place of random ones. For fine-tuning, where features do not change much. Defaults to False.
        report_interval (int): Every how many iterations a batch goes into the logged means. Defaults to 10.
        update_statistics (bool, optional): False freezes the mask modules. None: False if statistics of other classes
            than the head's have been loaded, else True. Defaults to None.
        initial_images (int, optional): Training images, at most, of the pass before the first step, of all ranks
            together; 0: no pass, None: the whole training set. Defaults to 2000.
    """

    def __init__(self, t_warm: int = 0, interval: int | None = None, fit_projection: bool = False,
                 report_interval: int = 10, update_statistics: bool | None = None,
                 initial_images: int | None = 2000) -> None:
        for name, value, least in (('t_warm', t_warm, 0), ('interval', interval, 1),
                                   ('report_interval', report_interval, 1), ('initial_images', initial_images, 0)):
            if value is not None and value < least:
                raise UserError(f'{name} must be at least {least}, got {value}')
        if update_statistics is False and (t_warm or fit_projection):
            raise UserError('update_statistics=False keeps masks as they are: leave out t_warm and fit_projection')
        self.t_warm, self.interval, self.report_interval = t_warm, interval, report_interval
        self.fit_projection, self.update_statistics = fit_projection, update_statistics
        self.initial_images = initial_images
        self._by_iter = self._kept = False
        self._masks: dict[str, LTM] = {}
        self._statistics: dict[str, ClassCentroids] = {}
        self._reports: dict[str, BottleneckReport] = {}
        self._handles: list = []
        self._warming: list[nn.Parameter] = []

    @property
    def _stats(self) -> list[ClassStatistics]:
        """Of the masks that take a step."""
        return [mask.stats for mask in self._masks.values() if mask.stats is not None]

    @property
    def _sums(self) -> list[ClassCentroids | BottleneckReport]:
        """All that is summed up over an epoch."""
        return [*self._statistics.values(), *self._reports.values()]

    def before_run(self, runner) -> None:
        model = unwrapped_model(runner)
        self._masks, self._statistics = _of_type(model, LTM), _of_type(model, ClassCentroids)
        self._reports = {name: mask.report for name, mask in self._masks.items() if mask.report is not None}
        for name, module in self._statistics.items():
            module.name = name
        if not any(isinstance(hook, RandomStateHook) for hook in runner.hooks):
            runner.register_hook(RandomStateHook())

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        state = checkpoint.get('state_dict', checkpoint)
        for name, module in self._statistics.items():
            message = module.mismatch(state, name + '.')
            if message and (resumes(runner) or self.update_statistics is False):
                raise UserError(f'cannot {"resume" if resumes(runner) else "keep the statistics"}: {message}')
            if message:
                runner.logger.warning(f'{message}: they start anew')
                for key in [key for key in state if key.startswith(name + '.')]:
                    del state[key]

    def before_train(self, runner) -> None:
        model = unwrapped_model(runner)
        heads = head_classes(model)
        of_others = any(stats.num_classes != heads and stats.ready for stats in self._stats)
        self._kept = self.update_statistics is False or (
            self.update_statistics is None and heads is not None and of_others)
        if self._kept:
            self._keep(runner)
            return
        if not self._statistics:
            runner.logger.warning('IBStatisticsHook has nothing to do, and masks take no step: no layer keeps '
                                  'statistics, for which model.backbone.merger.num_classes must be set')
        for name, module in self._statistics.items():
            if heads not in (None, module.num_classes):
                raise UserError(f'{name} keeps statistics of {module.num_classes} classes '
                                f'(model.backbone.merger.num_classes), but the head tells {heads} apart')
        if is_parallel(runner):
            self._warming = [parameter for mask in self._masks.values() for parameter in mask.parameters()
                             if parameter.requires_grad]
        self._by_iter = self.interval is not None or not is_epoch_based(runner)
        if self._by_iter and self.interval is None:
            self.interval = iterations_per_pass(runner)
        for mask in self._masks.values():
            mask.fitting = self.fit_projection and mask.stats is not None and not mask.stats.started
        self._switch(runner)
        if (runner.iter == 0 and self.t_warm == 0 and self.initial_images != 0
                and not all(stats.ready for stats in self._stats)):
            self._gather(runner, model)
        self._watch(runner, model)

    def before_train_epoch(self, runner) -> None:
        if not self._by_iter:  # an interrupted epoch, which is about to be repeated, may have left something
            for module in self._sums:
                module.restart_epoch()

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        self._switch(runner)
        if self._kept:
            for mask in self._masks.values():
                mask.eval()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        self._check_tokens()
        if self._by_iter and self.every_n_train_iters(runner, self.interval):
            self._finish_epoch(runner, runner.iter + 1)
        elif saves_after_iter(runner):
            self._synchronize()

    def after_train_epoch(self, runner) -> None:
        if not self._by_iter:
            self._finish_epoch(runner, runner.iter)

    def before_val(self, runner) -> None:
        self._synchronize()  # for the checkpoint that a good validation saves

    def after_train(self, runner) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, runner) -> None:
        """Freezes the masks, and forgets the statistics, which nothing shall happen to."""
        empty = [name for name, mask in self._masks.items() if mask.stats is not None and not mask.stats.ready]
        if empty or not self._masks:
            raise UserError(
                f'IBStatisticsHook: update_statistics=False, but {empty[0] if empty else "the model"} has none to '
                'keep: start from a classifier trained with this hook, by model.backbone.pretrained=PATH')
        classes = max(stats.num_classes for stats in self._stats)
        runner.logger.info(f'IBStatisticsHook: masks and their statistics of {classes} classes stay as loaded')
        for mask in self._masks.values():
            mask.requires_grad_(False)
        wait_for_learning_only(runner)
        self._statistics, self._reports = {}, {}

    def _switch(self, runner) -> None:
        """Switches merging on, unless it is too early."""
        active = self._epoch(runner) >= self.t_warm
        for mask in self._masks.values():
            if mask.active != active:
                mask.active = active
        if self._warming and self._warming[0].requires_grad != active:  # without merging masks get no gradient
            for parameter in self._warming:
                parameter.requires_grad_(active)
            wait_for_learning_only(runner)

    def _gather(self, runner, model: nn.Module) -> None:
        """Makes the statistics that the first step needs."""

        def after() -> None:
            self._take_back()
            self._check_tokens()

        def finish() -> None:
            for module in self._statistics.values():
                module.finish_epoch()

        for module in self._sums:
            module.restart_epoch()
        for mask in self._masks.values():
            mask.gathering = True
        initial_pass(runner, model, self.initial_images, self._hand_out, after, finish)
        for mask in self._masks.values():
            mask.gathering = False

    def _watch(self, runner, model: nn.Module) -> None:
        signature = inspect.signature(model.forward)

        def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            call = signature.bind(*args, **kwargs).arguments
            if module.training and call.get('mode') == 'loss':
                reporting = runner.iter % self.report_interval == 0
                self._hand_out(call.get('data_samples'), reporting)

        self._handles = [model.register_forward_pre_hook(before, with_kwargs=True),
                         model.register_forward_hook(self._take_back, always_call=True)]

    def _take_back(self, *_) -> None:
        for mask in self._masks.values():
            mask.targets, mask.reporting = None, False

    def _hand_out(self, data_samples: list | None, reporting: bool = False) -> None:
        if not self._stats:
            return
        classes, device = self._stats[0].num_classes, self._stats[0].centroids.device
        distribution = class_distribution(data_samples, classes)
        boxes, maps = object_boxes(data_samples or []), label_maps(data_samples or [])
        places = ObjectBoxes(*boxes) if boxes is not None else None if maps is None else LabelMaps(maps)
        targets = BatchTargets.of(distribution, classes, places).to(device)
        for mask in self._masks.values():
            mask.targets, mask.reporting = targets, reporting

    def _check_tokens(self) -> None:
        masks = self._masks.values()
        # One question to the device for all layers.
        if masks and not torch.stack([mask.checksum for mask in masks]).isfinite().all():
            for mask in masks:
                try:
                    mask.check_tokens()
                except ValueError as error:
                    raise UserError(str(error)) from error

    def _epoch(self, runner) -> int:
        return runner.iter // self.interval if self._by_iter else runner.epoch

    def _synchronize(self) -> None:
        for module in self._sums:
            module.synchronize()

    def _finish_epoch(self, runner, iterations: int) -> None:
        epoch = self._epoch(runner)
        for module in self._statistics.values():
            module.finish_epoch()
        for hook in runner.hooks:  # statistics are no weights: an average of weights goes by those of the epoch, too
            if isinstance(hook, EMAHook):
                for name, module in self._statistics.items():
                    hook.ema_model.module.get_submodule(name).load_state_dict(module.state_dict())
        summaries = {name: report.summary() for name, report in self._reports.items()}
        summaries = {name: summary for name, summary in summaries.items() if summary}
        if summaries:
            runner.logger.info(_table(f'IB statistics of epoch {epoch + 1}', summaries))
            scalars = {f'{key}/{name}': value for name, summary in summaries.items()
                       for key, value in summary.items()}
            runner.visualizer.add_scalars(scalars, step=iterations)


def _of_type(model: nn.Module, kind: type) -> dict:
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def head_classes(model: nn.Module) -> int | None:
    """How many classes the head of a classifier, detector or segmentor tells apart; None if it does not say."""
    head = next((head for head in (
        getattr(model, 'head', None), getattr(model, 'bbox_head', None), getattr(model, 'decode_head', None),
        getattr(getattr(model, 'roi_head', None), 'bbox_head', None)) if head is not None), None)
    if isinstance(head, nn.ModuleList):  # of a cascade, whose stages tell the same apart
        head = head[0]
    return getattr(head, 'num_classes', None)


def _table(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Lines of numbers under the names of their columns."""
    width = max(map(len, rows))
    keys = BottleneckReport.keys
    lines = [title, ' ' * width + ''.join(f'{key:>12}' for key in keys)]
    for name, row in rows.items():
        lines.append(f'{name:<{width}}' + ''.join(f'{row[key]:>12.4f}' for key in keys))
    return '\n'.join(lines)
