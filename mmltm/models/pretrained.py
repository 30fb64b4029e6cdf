"""Backbones that start from a classifier's weights: one value, the file, whatever project it comes from."""

from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmltm.models.checkpoints import Difference, is_zoo, load_start, log_brought, read_checkpoint, state_dict


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
            name = type(self).__name__
            source, difference = load_pretrained(self, self.pretrained, name)
            log_brought(f'{name}, from names of {source}', self.pretrained, difference,
                        MMLogger.get_current_instance())


def load_pretrained(backbone: nn.Module, path: str, name: str) -> tuple[str, Difference]:
    """Load a classifier's weights into a backbone of a known family; the project that they are of, and what they bring.

    A UserError that calls the backbone ``name`` says why the file does not fit.
    """
    from mmltm.models.convert import backbone_weights  # it needs the families, and these the backbones
    from mmltm.models.families import FAMILIES
    family = next(family for family in FAMILIES.values() if isinstance(backbone, (family.vanilla, family.merging)))
    state, source = backbone_weights(_read(path), family)
    return source, load_start(name, backbone, path, state)


def statistics_classes(path: str | None) -> int | None:
    """Of how many classes the masks in a checkpoint keep statistics; None if they keep none, or it is no local file."""
    if path is None or is_zoo(path):
        return None
    return next((len(value) for key, value in _read(path).items() if key.endswith('.stats.centroids')), None)


def _read(path: str) -> dict[str, Tensor]:
    from mmltm.models.convert import read_weights
    return state_dict(read_checkpoint(path)) if is_zoo(path) else read_weights(path)[0]
