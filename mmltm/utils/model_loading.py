"""From a config and a checkpoint to a model that is ready to use."""

import copy
from typing import Optional

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseModel

from mmltm.utils.checkpoint_checks import check_file, check_tested, read_checkpoint
from mmltm.utils.errors import TRACEBACK_SWITCH, UserError, summary
from mmltm.utils.profiling import build_model


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


def load_model(cfg: Config, checkpoint: Optional[str] = None) -> BaseModel:
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
