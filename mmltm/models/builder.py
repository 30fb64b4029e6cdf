"""From a config and a checkpoint to a model that is ready to use."""

import copy

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmengine.registry import DefaultScope, init_default_scope

from mmltm.errors import TRACEBACK_SWITCH, UserError, summary
from mmltm.models.checkpoints import check_file, check_tested, read_checkpoint
from mmltm.registry import MODELS


def build_model(model: dict, scope: str = 'mmpretrain') -> BaseModel:
    """The model of a config, or part of one, in evaluation mode, its weights as torch draws them.

    Types that do not say their scope are of ``scope``.
    """
    with DefaultScope.overwrite_default_scope(scope):
        built = revert_sync_batchnorm(MODELS.build(copy.deepcopy(model)))
    built.eval()  # returns None in backbones of mmpretrain
    return built


def vanilla_twin(cfg: Config) -> dict:
    """The model config without token merging; a UserError if the backbone has none."""
    model = copy.deepcopy(cfg.model)
    backbone = model['backbone']
    if 'ratio' not in backbone and 'merger' not in backbone:
        raise UserError(f"the backbone {backbone['type']} has no `ratio` and no `merger`, so it merges no tokens")
    backbone.update(ratio=None, merger=None)
    return model


def build_from(cfg: Config, model: dict | None = None) -> BaseModel:
    """As :func:`build_model`, of a config of mmpretrain or mmdet, whose scope stays the default one.

    With its data preprocessor, and, if given, ``model`` in place of its own. A UserError says why it cannot be built.
    """
    model = copy.deepcopy(cfg.model if model is None else model)
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    init_default_scope(cfg.default_scope)
    try:
        return build_model(model, cfg.default_scope)
    except Exception as error:  # of whatever kind a constructor raises
        raise build_error('model', cfg, error) from error


def cause(error: BaseException) -> BaseException:
    """The error of a constructor, without what registries put in front of it."""
    while error.__context__ is not None and str(error).endswith(str(error.__context__)):
        error = error.__context__
    return error


def build_error(what: str, cfg: Config, error: BaseException) -> UserError:
    """The error of a constructor in one line."""
    error = cause(error)
    hint = '' if isinstance(error, ValueError) else f' ({TRACEBACK_SWITCH}=1 shows where)'
    return UserError(f'cannot build the {what} from {cfg.filename}: {summary(error)}{hint}')


def load_model(cfg: Config, checkpoint: str | None = None) -> BaseModel:
    """As :func:`build_from`, with the weights of a path or URL (:func:`check_tested`), on mmengine's device."""
    if checkpoint is not None:
        check_file('checkpoint', checkpoint)
    model = build_from(cfg)
    if checkpoint is not None:
        check_tested(model, checkpoint, read_checkpoint(checkpoint), MMLogger.get_current_instance())
    return model.to(get_device())
