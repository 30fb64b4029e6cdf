"""Masks that follow an image, against the formulas written out for one window after the other."""

import pytest
import torch
import torch.nn.functional as F

from mmltm.merging import KMeansLTM
from mmltm.merging.kmeans import directions, soft_kmeans
from mmltm.models import LTMEfficientViT, LTMMobileViT, LTMSwin, LTMVisionTransformer


def follow(mask, tokens, steps, affinity):
    """G' and A of one window, (N, P) each, entry by entry."""
    shares = mask
    for _ in range(steps):
        centres = [sum(shares[i, p] * token for i, token in enumerate(tokens)) for p in range(mask.shape[1])]
        shares = torch.tensor([[mask[i, p] * (affinity * F.cosine_similarity(token, centre, dim=0)).exp()
                                for p, centre in enumerate(centres)] for i, token in enumerate(tokens)])
        shares = shares / shares.sum(1, keepdim=True)
    return shares / shares.sum(0), shares


@pytest.mark.parametrize('steps, affinity', [(1, 3.), (3, 20.)])
def test_formulas(steps, affinity):
    torch.manual_seed(0)
    mask = torch.rand(6, 4, dtype=torch.float64)
    mask, tokens = mask / mask.sum(0), torch.randn(2, 3, 6, 5, dtype=torch.float64)
    found = soft_kmeans(mask, tokens, steps, affinity)
    for image in range(2):
        for window in range(3):
            for one, wanted in zip(found, follow(mask, tokens[image, window], steps, affinity)):
                torch.testing.assert_close(one[image, window], wanted)


def test_tokens_that_look_alike_go_together():
    """Three cells become two: the one in the middle goes where it belongs."""
    mask = torch.tensor([[0.66, 0.01], [0.33, 0.33], [0.01, 0.66]])
    a, b = torch.tensor([1., 0.]), torch.tensor([0., 1.])
    merge, back = soft_kmeans(mask, torch.stack((torch.stack((a, a, b)), torch.stack((a, b, b))))[:, None], 2, 30.)
    torch.testing.assert_close(merge[0, 0], torch.tensor([[0.5, 0], [0.5, 0], [0, 1]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(merge[1, 0], torch.tensor([[1, 0], [0, 0.5], [0, 0.5]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(back.sum(-1), torch.ones(2, 1, 3))


def test_tokens_all_alike_are_merged_as_the_mask_has_it():
    mask = torch.tensor([[0.6, 0.1], [0.3, 0.3], [0.1, 0.6]])
    shares = mask / mask.sum(1, keepdim=True)
    merge, back = soft_kmeans(mask, torch.zeros(1, 1, 3, 4), 2, 20.)
    torch.testing.assert_close(back[0, 0], shares)
    torch.testing.assert_close(merge[0, 0], shares / shares.sum(0))


@pytest.mark.parametrize('affinity', [1., 40.])
def test_gradients_are_bounded(affinity):
    """Whatever an image looks like: else one image would decide what a mask learns."""
    torch.manual_seed(0)
    ltm = KMeansLTM((7, 7), (4, 4), embed_dims=8, kmeans_steps=3, affinity=affinity)
    for scale in (1., 1e-3):
        x = torch.randn(4, 8, 7, 7)
        x[1], x[2] = 0., x[2, :, :1, :1] + scale * x[2]  # all tokens alike, or nearly
        operator, _ = ltm(x)
        merged = operator.merge(x)
        moved, = torch.autograd.grad(merged.square().sum(), ltm.logits, retain_graph=True)
        turned, = torch.autograd.grad(merged.square().sum(), ltm.directions)
        reference, = torch.autograd.grad((x.flatten(2) @ ltm.matrices((7, 7), (4, 4))[0]).square().sum(), ltm.logits)
        assert moved.norm() < 20 * reference.norm() and turned.norm() < 20 * affinity * reference.norm()


def test_masks_and_directions_learn():
    """Tokens are of two kinds by one channel, loud noise fills the others: directions find that channel."""
    torch.manual_seed(0)
    ltm = KMeansLTM((4, 4), (2, 2), embed_dims=16, kmeans_steps=2, affinity_dim=4)
    optimizer = torch.optim.Adam(ltm.parameters(), lr=0.03)
    losses = []
    for _ in range(150):
        kind = torch.randint(2, (16, 1, 4, 4)) * 2. - 1.
        x = torch.cat((kind, torch.randn(16, 15, 4, 4)), 1)
        operator, _ = ltm(x)
        loss = (operator.unmerge(operator.merge(kind)) - kind).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    weight = ltm.directions.detach().norm(dim=1)
    assert weight[0] > 2 * weight[1:].max()


def test_directions_are_orthonormal_and_always_the_same():
    found = directions(24, 16)
    torch.testing.assert_close(found.mT @ found, 24 * torch.eye(16))
    assert torch.equal(found, directions(24, 16)) and directions(8, 16).shape == (8, 8)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('groups', [(), (2, )])
def test_every_window_of_a_map_for_itself(groups, channels_last):
    """Windows side by side, one kind of tile or four, are merged as each alone would be."""
    torch.manual_seed(0)
    ltm = KMeansLTM((4, 4), (3, 3), embed_dims=6 * (groups or (1, ))[0], kmeans_steps=2).eval()
    for size in ((8, 12), (6, 7)):
        x = torch.randn(2, *groups, 6, *size)
        if channels_last:
            x = x.movedim(-3, -1).contiguous().movedim(-1, -3)
        operator, _ = ltm(x)
        merged = operator.merge(x)
        means = x.flatten(1, -3).mean((-2, -1))[..., None, None].unflatten(1, x.shape[1:-2])
        for region in operator.regions:
            rows, cols = region.rows, region.cols
            for row in range(rows.repeat):
                for col in range(cols.repeat):
                    top, left = rows.start + row * rows.size, cols.start + col * cols.size
                    window = x[..., top:top + rows.size, left:left + cols.size]
                    mask, _ = ltm.matrices((rows.size, cols.size), (rows.merged, cols.merged))
                    tokens = (window - means).flatten(1, -3).flatten(2).mT @ ltm.directions
                    wanted = soft_kmeans(mask, tokens[:, None], 2, 20.)[0][:, 0]
                    wanted = (window.flatten(1, -3).flatten(2) @ wanted).view(*x.shape[:-2], rows.merged, cols.merged)
                    # The first region's windows are whole, and lie before all others.
                    first = operator.regions[0]
                    top = row * rows.merged + (rows.start and first.rows.merged * first.rows.repeat)
                    left = col * cols.merged + (cols.start and first.cols.merged * first.cols.repeat)
                    found = merged[..., top:top + rows.merged, left:left + cols.merged]
                    torch.testing.assert_close(found, wanted)
        assert operator.unmerge(merged).shape == x.shape
        tokens = torch.randn(2, size[0] * size[1], 6)
        if not groups:
            through = operator.detour(tokens, lambda merged: 2 * merged)
            maps = tokens.mT.unflatten(2, size)
            torch.testing.assert_close(through, 2 * operator.unmerge(operator.merge(maps)).flatten(2).mT)


@pytest.mark.parametrize('backbone, kwargs', [
    (LTMVisionTransformer, dict(arch=dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48),
                                out_type='featmap')),
    (LTMSwin, dict(arch=dict(embed_dims=12, depths=[2, 1, 2, 1], num_heads=[1, 2, 2, 4]))),
    (LTMMobileViT, dict(arch='xx_small')), (LTMEfficientViT, dict(arch='b0')),
    (LTMEfficientViT, dict(arch='b0', restore='none'))])
def test_in_all_backbones(backbone, kwargs):
    """Images decide for themselves, whatever else is in the batch, and masks learn."""
    torch.manual_seed(0)
    model = backbone(merger=dict(type='KMeansLTM', ratio=0.5, kmeans_steps=2), **kwargs)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # else tokens would hardly differ, and rounding decide which are alike
            torch.nn.init.kaiming_normal_(parameter.flatten(1))
    model.eval()
    x = torch.randn(2, 3, 128, 96)
    with torch.no_grad():
        together, alone = model(x)[-1], model(x[1:])[-1]
        torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-3)
        still = backbone(merger=dict(type='LTM', ratio=0.5), **kwargs)
        missing = still.load_state_dict(model.state_dict(), strict=False)  # checkpoints serve both
        assert not missing.missing_keys and all(key.endswith('.directions') for key in missing.unexpected_keys)
        still.eval()
        assert still(x)[-1].shape == together.shape and not torch.equal(still(x)[-1], together)
    model.train()
    model(x)[-1].square().mean().backward()
    logits = {name: value.grad for name, value in model.named_parameters() if name.endswith('logits')}
    assert logits and all(grad is not None and grad.isfinite().all() for grad in logits.values())
    assert any(grad.abs().sum() > 0 for grad in logits.values())


@pytest.mark.parametrize('wrong', [dict(kmeans_steps=0), dict(affinity=-1.), dict(affinity=41.), dict(affinity_dim=0)])
def test_errors(wrong):
    with pytest.raises(ValueError, match='must be positive'):
        KMeansLTM((4, 4), (3, 3), embed_dims=6, **wrong)
