"""Models by name, ready to use."""

import logging

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModel

from mmltm.errors import UserError
from mmltm.models.builder import build_model
from mmltm.models.checkpoints import check_file, compare, is_merging, read_checkpoint, state_dict
from mmltm.models.mergers import Ratio
from mmltm.models.zoo import model_config


def get_model(name: str, ratio: Ratio | None = None, num_classes: int = 1000, checkpoint: str | None = None,
              merger: dict | str | None = None, **kwargs) -> BaseModel:
    """A classifier by its name: mmpretrain's ``ImageClassifier``, in evaluation mode.

    The data preprocessor is that of the published weights: ImageNet's mean and standard deviation in RGB, for
    MobileViT pixels over 255 in BGR. Weights that were trained otherwise (timm's ``augreg`` ViTs) need
    ``data_preprocessor=dict(mean=..., std=...)``.

    Args:
        name (str): As :func:`~mmltm.models.zoo.list_models` gives it.
        ratio (float or Sequence[float]): Share of tokens that blocks keep, as the backbones take it. A vanilla
            model, ``name`` without ``ltm_``, has none and ignores it. Defaults to 0.7, unless ``merger`` says it.
        num_classes (int): Number of classes. Defaults to 1000.
        checkpoint (str, optional): Path or URL of weights to load, or ``hf://OWNER/REPOSITORY/FILE`` on the Hugging
            Face Hub, of this model or its vanilla twin, with a head of any size. Without it weights are as torch draws
            them; ``model.init_weights()`` draws them as a training does. Defaults to None.
        merger (dict or str, optional): Config of the merger, as ``dict(type='ToMe', r=8)``, or its type alone. Defaults
            to LTM.
        **kwargs: Merged into the model's config, as ``backbone=dict(img_size=384, merger=dict(window=14))``; weights
            of a MobileViT that was trained to let its smaller maps flow on need ``backbone=dict(restore='none')``.

    Raises:
        UserError: For an unknown name, a merger that the backbone cannot use, or a checkpoint that lacks parts of the
            backbone other than masks.

    Examples:
        >>> import mmltm, torch
        >>> model = mmltm.get_model('ltm_mobilevit_xxs', ratio=0.7, num_classes=10)
        >>> model(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 10])
    """
    config = Config(dict(model=model_config(name, ratio, num_classes, merger)))
    config.merge_from_dict(dict(model=kwargs))
    if checkpoint is not None:
        check_file('checkpoint', checkpoint)
    model = build_model(config.model)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    return model


def load_weights(model: BaseModel, checkpoint: str) -> None:
    """Load a classifier's weights and log which keys do not match.

    Missing masks start unlearnt. A head of another size, or none, leaves the model's own as it is. It is an error if
    parts of the backbone other than masks are missing or differ in shape.
    """
    difference = compare(model, state_dict(read_checkpoint(checkpoint)))
    masks = [key for key in difference.missing if is_merging(key)]
    difference = difference._replace(missing=[key for key in difference.missing if key not in masks])
    if any(key.startswith('backbone.') for key in difference.missing + difference.mismatched):
        raise UserError(
            f'checkpoint {checkpoint} does not fit the model: {difference}; weights of timm, mit-han-lab or mmdet '
            'need tools/model_converters/convert_weights.py first')
    if masks:
        print_log(f'Checkpoint {checkpoint} has no masks: token merging starts unlearnt', 'current')
    if difference.missing or difference.mismatched or difference.unexpected:
        print_log(f'Checkpoint {checkpoint}: {difference}', 'current', logging.WARNING)
    # A Runner would draw all weights anew otherwise.
    model.is_init = True
