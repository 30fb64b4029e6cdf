"""From a config and a checkpoint to a model that is ready to use."""

import copy

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from mmltm.errors import TRACEBACK_SWITCH, UserError, summary
from mmltm.models.checkpoints import check_file, check_tested, read_checkpoint
from mmltm.registry import MODELS


def build_model(model_cfg: dict, scope: str) -> nn.Module:
    """The model of a config in evaluation mode, its weights as torch creates them: no checkpoint is read."""
    init_default_scope(scope)
    return revert_sync_batchnorm(MODELS.build(copy.deepcopy(model_cfg))).eval()


def vanilla_twin(cfg: Config) -> dict:
    """The model config without token merging.

    Raises:
        ValueError: If the backbone is none of mmltm's.
    """
    model = copy.deepcopy(cfg.model)
    backbone = model['backbone']
    if 'ratio' not in backbone and 'merger' not in backbone:
        raise ValueError(f"the backbone {backbone['type']} has no `ratio` and no `merger`, so it merges no tokens")
    backbone.update(ratio=None, merger=None)
    return model


def build_from(cfg: Config) -> BaseModel:
    """The model of a config with its data preprocessor, in evaluation mode, its weights as torch draws them.

    Raises:
        UserError: It cannot be built; the message says why.
    """
    config = copy.deepcopy(cfg.model)
    config.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    try:
        return build_model(config, cfg.default_scope)
    except Exception as error:  # of whatever kind a constructor raises
        raise UserError(f'cannot build the model from {cfg.filename}: {summary(error)} ({TRACEBACK_SWITCH}=1 shows '
                        'where)') from error


def load_model(cfg: Config, checkpoint: str | None = None) -> BaseModel:
    """As :func:`build_from`, with the weights of a checkpoint, on the device that mmengine chooses.

    Args:
        cfg (Config): Of mmpretrain or mmdet.
        checkpoint (str, optional): Path or URL; without it masks are unlearnt.

    Raises:
        UserError: The model cannot be built, or the checkpoint is of another model.
    """
    if checkpoint is not None:
        check_file('checkpoint', checkpoint)
    model = build_from(cfg)
    if checkpoint is not None:
        check_tested(model, checkpoint, read_checkpoint(checkpoint), MMLogger.get_current_instance())
    return model.to(get_device())
