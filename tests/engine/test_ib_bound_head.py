"""The IB bound of the pooled features as a loss term."""

import pytest
import torch
from mmpretrain.models import LinearClsHead
from mmpretrain.structures import DataSample

from mmltm.errors import UserError
from mmltm.ib import ib_bound
from mmltm.models.heads import IBLinearClsHead
from tests.engine.small_runs import Images, assert_same, classifier, final_state, runner

IB = dict(type='mmltm.IBStatisticsHook')
HEADS = [
    dict(type='mmltm.IBLinearClsHead'),
    dict(type='mmltm.IBEfficientViTClsHead', hidden_channels=(32, 24)),
]


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('vanilla', [False, True])
def test_term_counts_after_its_share_of_the_training(tmp_path, head, vanilla):
    """Twelve iterations, of which the first 4.8 are without it; Q is there from the fifth on."""
    model = classifier(head=dict(head, ib_begin=0.4), merger=dict(ratio=1.0) if vanilla else {})
    run = runner(tmp_path, model=model, hooks=[IB], epochs=6, data=Images(noise=300))
    run.train()
    term, loss = (run.message_hub.get_scalar(f'train/{key}').data[0] for key in ('loss_ib', 'loss'))
    assert (term[:5] == 0).all() and (term[5:] > 0).all() and len(term) == 12
    assert (loss[5:] > term[5:]).all()
    assert run.model.head.ib_statistics.counts.sum() == 16


def trained_head(**kwargs):
    torch.manual_seed(0)
    head = IBLinearClsHead(3, 8, ib_begin=0, **kwargs)
    feats = torch.randn(24, 8) + torch.randn(3, 8)[torch.arange(24) % 3]
    samples = [DataSample().set_gt_label(index % 3) for index in range(24)]
    for _ in range(2):
        head.loss((feats,), samples)
        head.ib_statistics.finish_epoch()
    return head, feats, samples


def test_term_is_the_bound_but_for_its_constant():
    head, feats, samples = trained_head()
    feats.requires_grad_()
    labels = torch.cat([sample.gt_label for sample in samples])
    losses = head.loss((feats,), samples)
    stats = head.ib_statistics
    phi, phi_input = stats.assign(feats[:, None]), torch.rand(24, 5).softmax(1)
    bound = ib_bound(phi, phi_input, labels, stats.q)[0] - (phi_input * phi_input.log()).sum(1).mean()
    torch.testing.assert_close(losses['loss_ib'], 0.1 * bound)
    gradient, = torch.autograd.grad(losses['loss_ib'], feats)
    moved = head.loss(((feats - 0.1 * gradient / gradient.norm()).detach(),), samples)
    assert moved['loss_ib'] < losses['loss_ib']


def test_head_is_its_parent_in_weights_and_predictions():
    head, feats, samples = trained_head(ib_weight=0.0)
    parent = LinearClsHead(3, 8)
    missing, unexpected = parent.load_state_dict(head.state_dict(), strict=False)
    assert not missing and all(key.startswith('ib_statistics.') for key in unexpected)
    for one, other in zip(head.eval().predict((feats,)), parent.eval().predict((feats,))):
        assert one.pred_score.equal(other.pred_score)
    assert head.loss((feats,), samples)['loss'] == parent.loss((feats,), samples)['loss']


def test_soft_targets_and_resuming(tmp_path):
    mixup = dict(augments=[dict(type='Mixup', alpha=1.0)])
    model = classifier(head=dict(HEADS[0], ib_begin=0.5), train_cfg=mixup)
    kwargs = dict(model=model, hooks=[IB], epochs=5)
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    runner(whole, **kwargs).train()
    runner(resumed, resume=True, load_from=str(whole / 'epoch_3.pth'), **kwargs).train()
    assert_same(final_state(whole, 'epoch_5.pth'), final_state(resumed, 'epoch_5.pth'))


def test_a_run_without_the_hook_is_stopped(tmp_path):
    with pytest.raises(UserError, match='IBStatisticsHook'):
        runner(tmp_path, model=classifier(head=HEADS[0]), epochs=2).train()


def test_bad_share_is_named():
    with pytest.raises(ValueError, match='ib_begin'):
        IBLinearClsHead(3, 8, ib_begin=30)
