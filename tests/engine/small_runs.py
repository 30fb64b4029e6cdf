"""Small trainings through mmengine's Runner: a classifier on made-up images, seconds on a CPU."""

import random
import uuid

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

import mmltm  # noqa: F401
from mmltm.merging import LTM

CLASSES = ('a', 'b', 'c')


@DATASETS.register_module('SmallImages', force=True)
class Images(Dataset):
    """Each class has a pattern; what else is in an image is random, in part anew each time it is read.

    Args:
        count (int): Number of images.
        size (int): Side in pixels.
        augment (bool): Draw from the global generators of Python, NumPy and PyTorch.
        noise (float): Standard deviation of what does not tell the class.
    """
    metainfo = dict(classes=CLASSES)

    def __init__(self, count=16, size=64, augment=True, noise=30):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(count) % len(CLASSES)
        patterns = 40 * torch.randn(len(CLASSES), 3, 8, 8, generator=generator)
        patterns = torch.nn.functional.interpolate(patterns, size=size)
        noise = noise * torch.randn(count, 3, size, size, generator=generator)
        self.images = 128 + patterns[self.labels] + noise
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        if self.augment:
            image = image + 3 * random.gauss(0, 1) + 3 * np.random.randn() + 3 * torch.randn(())
        return dict(inputs=image, data_samples=DataSample().set_gt_label(int(self.labels[index])))


class Rising(BaseMetric):
    """A metric that every validation betters."""
    default_prefix = 'rising'
    value = 0

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        self.value += 1
        return dict(value=self.value)


@METRICS.register_module('SmallAccuracy', force=True)
class Accuracy(Rising):
    """The share of images whose class is found."""

    def compute_metrics(self, results):
        return dict(value=sum(int(x['pred_label']) == int(x['gt_label']) for x in results) / len(results))


@MODELS.register_module(force=True)
class TwoBlocks(BaseModel):
    """Merges twice and classifies; no batch statistics, and nothing that amplifies rounding errors."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.mergers = torch.nn.ModuleList(
            # Scaled to unit size, a small gradient's rounding errors would grow with it.
            LTM(source, target, 8, first=first, num_classes=3, step_norm='none')
            for source, target, first in (
                ((7, 7), (6, 6), True), ((6, 6), (4, 4), False), ((4, 4), (3, 3), False)))
        self.stem = torch.nn.Conv2d(3, 8, 9, stride=9)
        self.fc = torch.nn.Linear(8, 3)

    def forward(self, inputs, data_samples, mode):
        x, carry = self.stem((torch.stack(list(inputs)) - 128) / 64).tanh(), None
        for merger in self.mergers:
            operator, carry = merger(x, carry)
            x = x if operator is None else operator.merge(x)
        scores = self.fc(x.mean((2, 3)))
        if mode != 'loss':
            return [sample.set_pred_label(label) for sample, label in zip(data_samples, scores.argmax(1))]
        labels = torch.cat([sample.gt_label for sample in data_samples])
        return dict(loss=torch.nn.functional.cross_entropy(scores, labels))


def classifier(merger=(), head=(), train_cfg=None, **backbone):
    """Config of a classifier on LTM-EfficientViT-B0."""
    merger = {'type': 'LTM', 'ratio': 0.5, 'num_classes': len(CLASSES), **dict(merger)}
    head = {'type': 'LinearClsHead', 'num_classes': len(CLASSES), 'in_channels': 128, **dict(head)}
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(
            type='ClsDataPreprocessor', mean=[128] * 3, std=[64] * 3, num_classes=len(CLASSES),
            to_onehot=bool(train_cfg)),
        backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', **{'merger': merger, **backbone}),
        neck=None if 'EfficientViT' in head['type'] else dict(type='GlobalAveragePooling'),
        head=head,
        train_cfg=train_cfg)


def runner(work_dir, model=None, hooks=(), epochs=3, iters=None, val=False, batch_size=8, data=None, seed=0,
           checkpoint=None, workers=0, collate='default_collate', **kwargs):
    """A runner for ``epochs``, or for ``iters`` iterations.

    Args:
        work_dir (Path): Where to.
        model (dict, optional): Defaults to :func:`classifier`.
        hooks (Sequence): Custom hooks.
        epochs (int): Of an epoch-based loop.
        iters (int, optional): Of an iteration-based loop in its place.
        val (bool): Validate after each epoch, or after every third iteration, and keep the best checkpoint.
        checkpoint (dict, optional): Arguments of the checkpoint hook.
        **kwargs: Other arguments of the runner.
    """
    loop = dict(by_epoch=True, max_epochs=epochs) if iters is None else dict(
        by_epoch=False, max_iters=iters, val_interval=3)
    sampler = 'DefaultSampler' if iters is None else 'InfiniteSampler'
    loader = dict(batch_size=batch_size, num_workers=workers, collate_fn=dict(type=collate))
    checkpoint = {'type': 'CheckpointHook', 'interval': 1, 'by_epoch': iters is None, **(checkpoint or {})}
    settings = dict(
        model=model or classifier(),
        work_dir=str(work_dir),
        train_dataloader=dict(dataset=data or Images(), sampler=dict(type=sampler, shuffle=True), **loader),
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=checkpoint),
        custom_hooks=list(hooks),
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        randomness=dict(seed=seed),
        default_scope='mmpretrain',
        experiment_name=uuid.uuid4().hex)
    if val:
        checkpoint.update(save_best='rising/value', rule='greater')
        settings.update(
            val_dataloader=dict(
                dataset=Images(8), sampler=dict(type='DefaultSampler', shuffle=False), **loader),
            val_cfg=dict(),
            val_evaluator=Evaluator(Rising()))
    return Runner(**{**settings, **kwargs})


def write_config(path, model=None, images=(), val=(), **kwargs):
    """A config for the tools like :func:`runner`'s settings: epochs of four batches, validated and saved each."""
    loader = dict(batch_size=4, num_workers=0, collate_fn=dict(type='default_collate'))
    Config(dict(
        custom_imports=dict(imports=['tests.engine.small_runs', 'tests.engine.faults']),
        default_scope='mmpretrain',
        model=model or classifier(),
        train_dataloader=dict(
            dataset=dict(type='SmallImages', **dict(images)), sampler=dict(type='DefaultSampler', shuffle=True),
            **loader),
        val_dataloader=dict(
            dataset=dict(type='SmallImages', count=8, augment=False),
            sampler=dict(type='DefaultSampler', shuffle=False), **loader),
        val_evaluator=dict(type='SmallAccuracy'),
        val_cfg=dict(),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1, save_best='rising/value', rule='greater')),
        custom_hooks=[dict(type='mmltm.IBStatisticsHook', report_interval=1)],
        randomness=dict(seed=0)) | kwargs).dump(path)


def final_state(work_dir, name):
    """Model and optimizer of a checkpoint, as one dict of tensors."""
    saved = torch.load(work_dir / name, weights_only=False)
    state = dict(saved['state_dict'])
    for index, values in saved['optimizer']['state'].items():
        state.update({f'optimizer.{index}.{key}': value for key, value in values.items()})
    return state


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
