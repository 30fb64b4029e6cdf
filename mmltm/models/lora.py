"""Low-rank adaptation of a backbone and its mergers (LTM paper, supplement 2.2), on mmpretrain's ``LoRAModel``.

Departure from that class, for which all but the low-rank weights is frozen and left out of checkpoints: mergers
(masks, thresholds, projections) learn too, and they and their statistics are saved.
"""

from mmpretrain.models.peft import LoRAModel
from torch import Tensor, nn

from mmltm.merging.trace import mergers_of
from mmltm.registry import MODELS


@MODELS.register_module()
class LTMLoRAModel(LoRAModel):
    """A backbone of which low-rank weights and token mergers learn, and nothing else.

    Its checkpoints hold low-rank weights, mergers and their statistics: a test needs the weights below them too,
    which ``init_cfg`` of ``module`` names.

    Args:
        *args, **kwargs: Arguments of mmpretrain's ``LoRAModel``: ``module``, ``targets``, ``rank``, ``alpha``,
            ``drop_rate``.
    """

    def _set_lora_trainable(self) -> None:
        super()._set_lora_trainable()
        for merger in mergers_of(self).values():
            merger.requires_grad_(True)

    def _register_state_dict_hooks(self) -> None:
        """As the parent's, with mergers among the keys that count."""
        learns = ('.lora_', *(f'{name}.' for name in mergers_of(self)))

        def keep(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: dict) -> None:
            for key in list(state):
                if key.startswith(prefix) and not any(part in key for part in learns):
                    del state[key]

        def excuse(module: nn.Module, incompatible) -> None:
            for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
                keys[:] = [key for key in keys if any(part in key for part in learns)]

        self._register_state_dict_hook(keep)
        self.register_load_state_dict_post_hook(excuse)
