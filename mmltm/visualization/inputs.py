"""From an image file to what a model sees, and back to a picture."""


import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor

from mmltm.apis.data_root import leaf_datasets
from mmltm.errors import UserError
from mmltm.models.checkpoints import check_file


def load_image(cfg: Config, path: str) -> dict:
    """A batch of one image, as the config's test pipeline prepares it.

    Raises:
        UserError: There is no such file, or no test pipeline.
    """
    check_file('image', path)
    init_default_scope(cfg.default_scope)
    pipeline = next((dataset.pipeline for _, dataset in leaf_datasets(cfg, ['test']) if 'pipeline' in dataset), None)
    if pipeline is None:
        raise UserError(f'config {cfg.filename} has no test_dataloader with a pipeline, which says how to '
                        'prepare images')
    return pseudo_collate([Compose(pipeline)(dict(img_path=str(path), img_id=0))])


def to_picture(inputs: Tensor, size: tuple[int, int]) -> np.ndarray:
    """What a pipeline has packed, (3, H, W) in BGR and [0, 255], as RGB pixels padded as the model's input is.

    Args:
        inputs (Tensor): One image of a batch before the data preprocessor.
        size (tuple): Height and width of the model's input; what exceeds the image at the right and below is padding.

    Returns:
        np.ndarray: (height, width, 3), uint8.
    """
    image = inputs.detach().cpu().clamp(0, 255).to(torch.uint8).flip(0).permute(1, 2, 0).numpy()
    padding = [(0, max(0, wanted - side)) for wanted, side in zip(size, image.shape)]
    return np.pad(image, [*padding, (0, 0)])
