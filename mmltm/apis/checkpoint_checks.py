"""Checks of the checkpoints that a config and a training start from."""

from collections.abc import Iterator, Mapping

from mmengine.config import Config
from mmengine.runner import Runner

from mmltm.apis.config_keys import nested_dicts
from mmltm.apis.dataset_checks import Labels
from mmltm.engine.runner_utils import unwrapped_model
from mmltm.errors import UserError
from mmltm.models.checkpoints import (
    MIN_SHARE,
    check_file,
    check_tested,
    dataset_meta,
    is_zoo,
    load_start,
    log_brought,
    read_checkpoint,
    state_dict,
)
from mmltm.models.pretrained import StartsPretrained, load_pretrained


def check_checkpoint_files(cfg: Config) -> None:
    """Checks that all checkpoints the config names as local files exist."""
    if cfg.get('load_from'):
        check_file('checkpoint', cfg.load_from)
    for key, init_cfg in _pretrained('model', cfg.model):
        check_file(f'{key}.checkpoint', init_cfg['checkpoint'])
    backbone = cfg.model.get('backbone') or {}
    if isinstance(backbone.get('pretrained'), str):
        check_file('model.backbone.pretrained', backbone['pretrained'])


def _pretrained(key: str, value) -> Iterator[tuple[str, dict]]:
    """Each ``dict(type='Pretrained', checkpoint=...)`` within a config, and its key."""
    return ((name, part) for name, part in nested_dicts(key, value)
            if part.get('type') == 'Pretrained' and isinstance(part.get('checkpoint'), str))


def check_classes(path: str, checkpoint: dict, labels: Mapping[str, Labels]) -> None:
    """Compares the classes that a checkpoint was trained on, as far as it says, with those of the datasets.

    Raises:
        UserError: A name stands for another label than in the checkpoint. (Names may differ, as in other spellings.)
    """
    classes = list(dataset_meta(checkpoint).get('classes') or ())
    for key, (names, _, _) in labels.items() if classes else ():
        at = {name: label for label, name in enumerate(classes)}
        moved = [name for label, name in enumerate(names) if at.get(name, label) != label]
        if moved:
            raise UserError(
                f'{key}: {len(moved)} of {len(names)} classes have another label than in checkpoint {path}, first '
                f'{moved[0]} ({names.index(moved[0])}, there {at[moved[0]]}): give metainfo.classes and the data the '
                f'order of the checkpoint: {", ".join(map(str, classes[:5]))}{", ..." if len(classes) > 5 else ""}')


def check_trained(runner: Runner, cfg: Config, labels: Mapping[str, Labels] = {}) -> None:
    """Checks the checkpoints that training starts from, and logs what they bring.

    One to resume from must be of this very model, and its classes those of the datasets (``labels``). Pre-trained
    weights must fill most of the keys that they are meant for, and every mask if they hold any.
    """
    start, model = cfg.get('load_from'), unwrapped_model(runner)
    if cfg.get('resume'):
        if start:
            checkpoint = read_checkpoint(start)
            check_tested(model, start, checkpoint, runner.logger, masks_may_miss=False)
            check_classes(start, checkpoint, labels)
            lacks = [key for key in ('message_hub', 'optimizer', 'meta') if key not in checkpoint]
            if lacks:
                raise UserError(f'cannot resume from {start}, which holds weights but no state of a training '
                                f'({", ".join(lacks)}): to start from its weights, use --cfg-options load_from={start}')
            for unit in ('epoch', 'iter'):
                last = (cfg.get('train_cfg') or {}).get(f'max_{unit}s')
                if last and checkpoint['meta'].get(unit, 0) >= last:
                    runner.logger.warning(f'{start} is of {unit} {checkpoint["meta"][unit]} of {last}: there is '
                                          'nothing left to train')
        return
    for name, module in model.named_modules():
        if getattr(module, 'is_init', False):  # read while the model was built, and changed since, as by LoRA
            continue
        for _, init_cfg in _pretrained(name, getattr(module, 'init_cfg', None)):
            path = init_cfg['checkpoint']
            if is_zoo(path):  # those name their model
                continue
            part, prefix = name or 'the model', init_cfg.get('prefix') or ''
            what = f'{path} below {prefix!r}' if prefix else path
            difference = load_start(part, module, what, state_dict(read_checkpoint(path), prefix))
            log_brought(part, path, difference, runner.logger)
        if isinstance(module, StartsPretrained) and module.pretrained and not is_zoo(module.pretrained):
            load_pretrained(module, module.pretrained, name)  # which says itself what it brings, when weights are drawn
    if start:
        difference = load_start('the model', model, start, state_dict(read_checkpoint(start)), MIN_SHARE)
        log_brought('the model', start, difference, runner.logger)
    elif not hasattr(model, 'head'):  # no classifier
        backbone = getattr(model, 'backbone', None)
        if isinstance(backbone, StartsPretrained) and not (backbone.pretrained or backbone.init_cfg):
            runner.logger.warning('The backbone starts from random weights: model.backbone.pretrained=PATH starts it '
                                  'from a classifier')
