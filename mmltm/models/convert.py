"""Names of other projects' weights in terms of mmltm's modules."""

import re
from typing import Dict

from torch import Tensor

_EFFICIENTVIT_TIMM = (
    (r'\.main\.', '.'),
    (r'\.norm\.', '.bn.'),
    (r'^stem\.in_conv\.', 'backbone.stem.0.'),
    (r'^stem\.res(\d+)\.', lambda m: f'backbone.stem.{int(m[1]) + 1}.'),
    (r'^stages\.(\d+)\.blocks\.0\.', r'backbone.stages.\1.downsample.'),
    (r'^stages\.(\d+)\.blocks\.(\d+)\.', lambda m: f'backbone.stages.{m[1]}.blocks.{int(m[2]) - 1}.'),
    (r'\.context_module\.', '.context.'),
    (r'\.local_module\.', '.local.'),
    (r'\.qkv\.conv\.', '.qkv.'),
    (r'\.aggreg\.', '.aggregations.'),
    (r'^head\.in_conv\.', 'head.conv.'),
    (r'^head\.classifier\.4\.', 'head.fc.'),
    (r'^head\.classifier\.', 'head.hidden.'),
)


def efficientvit_from_timm(state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """State dict of timm's ``efficientvit_b*`` under the names of mmltm's classifier (backbone and head)."""
    converted = {}
    for name, value in state_dict.items():
        for pattern, replacement in _EFFICIENTVIT_TIMM:
            name = re.sub(pattern, replacement, name)
        converted[name] = value
    return converted
