"""Projections: orthogonality, and what they do to distances and inner products."""

import pytest
import torch

from mmltm.ib.projection import orthogonal_projection, principal_projection


@pytest.mark.parametrize('embed_dims, stat_dim', [(144, 16), (768, 16), (20, 20)])
def test_orthogonal_and_fixed_by_the_seed(embed_dims, stat_dim):
    matrix = orthogonal_projection(embed_dims, stat_dim, seed=3)
    torch.testing.assert_close(
        matrix.T @ matrix, embed_dims / stat_dim * torch.eye(stat_dim), rtol=1e-5, atol=1e-4)
    torch.manual_seed(5)
    assert matrix.equal(orthogonal_projection(embed_dims, stat_dim, seed=3))
    assert not matrix.equal(orthogonal_projection(embed_dims, stat_dim, seed=4))


def test_distances_are_preserved_up_to_the_johnson_lindenstrauss_error():
    """36 tokens of 144 channels: the relative error of a squared distance is about sqrt(2 / (36 d))."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 36, 144, generator=generator)
    exact = torch.pdist(features.flatten(1)).square()
    errors = {}
    for stat_dim in (4, 16, 64):
        projected = features @ orthogonal_projection(144, stat_dim)
        ratio = torch.pdist(projected.flatten(1)).square() / exact
        errors[stat_dim] = float(ratio.std())
        # The 780 pairs are made of 40 independent features.
        assert float(ratio.mean()) == pytest.approx(1, abs=3 * errors[stat_dim] / 40**0.5)
    assert errors[4] == pytest.approx((2 / (36 * 4)) ** 0.5, rel=0.25)
    assert errors[16] == pytest.approx((2 / (36 * 16)) ** 0.5, rel=0.25)
    assert errors[64] < errors[16]


def test_inner_products_are_unbiased():
    x, y = torch.randn(2, 30, generator=torch.Generator().manual_seed(1))
    matrices = (orthogonal_projection(30, 6, seed) for seed in range(3000))
    products = torch.stack([(x @ matrix) @ (y @ matrix) for matrix in matrices])
    standard_error = products.std() / 3000**0.5
    assert abs(products.mean() - x @ y) < 4 * standard_error


def test_principal_directions_hold_what_varies():
    generator = torch.Generator().manual_seed(2)
    basis = torch.linalg.qr(torch.randn(20, 20, generator=generator)).Q
    variances = torch.cat([torch.tensor([9., 4.]), torch.full((18,), 1e-3)])
    matrix = principal_projection(basis @ torch.diag(variances) @ basis.T, 2)
    torch.testing.assert_close(matrix @ matrix.T, basis[:, :2] @ basis[:, :2].T, rtol=0, atol=1e-5)
