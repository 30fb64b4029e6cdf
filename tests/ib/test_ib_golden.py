"""The worked example in float64, computed elsewhere by automatic differentiation."""

import numpy as np
import pytest
import torch

from mmltm.ib import class_centroids, conditional_assignment, ib_bound, ib_loss, mask_gradient, soft_assignment


@pytest.fixture(scope='module')
def golden(shared):
    return {key: torch.from_numpy(np.asarray(value))
            for key, value in np.load(shared / 'golden/ib_reference.npz').items()}


@pytest.mark.parametrize('soft', [False, True])
def test_every_quantity_of_the_worked_example(golden, soft):
    targets = torch.nn.functional.one_hot(golden['y']).double() if soft else golden['y']
    merged = torch.einsum('np,ind->ipd', golden['G'], golden['Z'])
    merged_centroids = class_centroids(merged, targets)
    input_centroids = class_centroids(golden['X'], targets)
    phi_merged = soft_assignment(merged, merged_centroids)
    phi_input = soft_assignment(golden['X'], input_centroids)
    q = conditional_assignment(phi_merged, targets)
    loss, merged_input, merged_label = ib_loss(phi_merged, phi_input, targets)
    bound, c0 = ib_bound(phi_merged, phi_input, targets, q)
    computed = dict(
        merged=merged, merged_centroids=merged_centroids, input_centroids=input_centroids,
        phi_merged=phi_merged, phi_input=phi_input, Q=q, ib_loss=loss, I_merged_input=merged_input,
        I_merged_label=merged_label, ib_bound=bound, C0=c0,
        grad_G=mask_gradient(golden['Z'], merged, merged_centroids, q, targets))
    for name, value in computed.items():
        torch.testing.assert_close(
            value, golden[name], rtol=0, atol=1e-9, msg=lambda text, name=name: f'{name}: {text}')
