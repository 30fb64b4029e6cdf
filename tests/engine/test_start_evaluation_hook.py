"""The validation before a training, without merging and with it."""

import re

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator

from mmltm.merging import LTM
from tests.engine.small_runs import Images, runner

HOOK = dict(type='mmltm.StartEvaluationHook')


class Scores(BaseMetric):
    """Mean of the first class's probability over its chance, magnified: tells any two models apart."""
    default_prefix = 'scores'

    def process(self, data_batch, data_samples):
        self.results += [1e4 * (sample['pred_score'][0].item() - 1 / 3) for sample in data_samples]

    def compute_metrics(self, results):
        return dict(mean=sum(results) / len(results))


def run(tmp_path, **kwargs):
    torch.manual_seed(0)
    return runner(
        tmp_path, hooks=[HOOK], epochs=1, val_cfg=dict(), val_evaluator=Evaluator(Scores()),
        val_dataloader=dict(dataset=Images(8), sampler=dict(type='DefaultSampler', shuffle=False), batch_size=8,
                            num_workers=0, collate_fn=dict(type='default_collate')), **kwargs)


def logged(tmp_path):
    text = ''.join(file.read_text() for file in sorted(tmp_path.rglob('*.log')))
    return dict(re.findall(r'Before training, (with(?:out)? merging): scores/mean: (-?[\d.]+)', text))


def test_both_models_are_evaluated_before_the_first_step(tmp_path):
    run(tmp_path / 'first').train()
    trained = tmp_path / 'first/epoch_1.pth'
    training = run(tmp_path / 'second', load_from=str(trained))
    training.train()
    found = logged(tmp_path / 'second')
    masks = [module for module in training.model.modules() if isinstance(module, LTM)]
    assert masks and all(mask.active for mask in masks)
    training.model.load_state_dict(torch.load(trained, weights_only=False)['state_dict'])
    for title, active in (('without merging', False), ('with merging', True)):
        for mask in masks:
            mask.active = active
        assert float(found[title]) == pytest.approx(training.val_loop.run()['scores/mean'], abs=1e-2)
    assert found['without merging'] != found['with merging']


def test_a_resumed_run_does_not_repeat_it(tmp_path):
    run(tmp_path / 'first').train()
    resumed = run(tmp_path / 'second', load_from=str(tmp_path / 'first/epoch_1.pth'), resume=True)
    resumed.train_loop._max_epochs = 2
    resumed.train()
    assert logged(tmp_path / 'first') and not logged(tmp_path / 'second')
