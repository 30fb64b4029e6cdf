import torch
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


def test_forward_in_bfloat16_weights_in_float32():
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    wrapper = OPTIM_WRAPPERS.build(dict(
        type='mmltm.BFloat16OptimWrapper', accumulative_counts=2,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1)))
    before, x = model.weight.detach().clone(), torch.randn(4, 8)
    for step in range(2):
        with wrapper.optim_context(model):
            output = model(x)
        assert output.dtype is torch.bfloat16 and not torch.is_autocast_enabled('cpu')
        wrapper.update_params(output.float().square().mean())
        assert torch.equal(model.weight, before) == (step == 0)  # the gradients of two steps count as one
    assert model.weight.dtype is torch.float32
