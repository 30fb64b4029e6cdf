"""Backbones that start from a classifier's weights: one value, the file, whatever project it comes from."""

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmltm.errors import UserError
from mmltm.models.checkpoints import (
    Difference,
    check_file,
    is_zoo,
    load_start,
    log_brought,
    read_checkpoint,
    state_dict,
)


class StartsPretrained(BaseModule):
    """Mixin of backbones that take ``pretrained``.

    Attributes:
        pretrained (str, optional): Path or URL of a classifier's checkpoint, of mmltm (with its masks and statistics,
            if it has any), mmpretrain, timm or mit-han-lab, ``.safetensors`` too. Its head is left behind.
    """
    pretrained: str | None = None

    def init_weights(self) -> None:
        """Draws weights as ever, then loads those of the classifier and says in one line what they are."""
        super().init_weights()
        if self.pretrained:
            load_pretrained(self, type(self).__name__, logs=True)


def load_pretrained(backbone: nn.Module, name: str, logs: bool = False) -> Difference:
    """Load the weights that ``backbone.pretrained`` names.

    Args:
        backbone (nn.Module): Of a known family.
        name (str): What messages call it.
        logs (bool): Say what has been loaded. Defaults to False.

    Raises:
        UserError: The file is none, or of another backbone.
    """
    from mmltm.models.convert import backbone_weights  # it needs the families, and these the backbones
    from mmltm.models.families import FAMILIES
    family = next(family for family in FAMILIES.values() if isinstance(backbone, (family.vanilla, family.merging)))
    state, source = backbone_weights(_read(backbone.pretrained), family)
    difference = load_start(name, backbone, backbone.pretrained, state)
    if logs:
        log_brought(f'{name}, from names of {source}', backbone.pretrained, difference, MMLogger.get_current_instance())
    return difference


def statistics_classes(path: str | None) -> int | None:
    """Of how many classes the masks in a checkpoint keep statistics; None if they keep none, or it is no local file."""
    if path is None or is_zoo(path):
        return None
    return next((len(value) for key, value in _read(path).items() if key.endswith('.stats.centroids')), None)


def _read(path: str) -> dict[str, Tensor]:
    from mmltm.models.convert import read_weights
    check_file('checkpoint', path)
    if not is_zoo(path):
        try:
            return read_weights(path)[0]
        except UserError:  # holds more than tensors, as checkpoints of mmengine do
            if path.endswith('.safetensors'):
                raise
    return state_dict(read_checkpoint(path))
