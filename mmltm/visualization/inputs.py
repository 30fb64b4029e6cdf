"""From what a model sees back to a picture."""

import numpy as np
import torch
from torch import Tensor


def to_picture(inputs: Tensor, size: tuple[int, int]) -> np.ndarray:
    """What a pipeline has packed, (3, H, W) in BGR and [0, 255], as RGB pixels, (height, width, 3), uint8.

    It is padded at the right and below to ``size``, height and width of the model's input.
    """
    image = inputs.detach().cpu().clamp(0, 255).to(torch.uint8).flip(0).permute(1, 2, 0).numpy()
    padding = [(0, max(0, wanted - side)) for wanted, side in zip(size, image.shape)]
    return np.pad(image, [*padding, (0, 0)])
