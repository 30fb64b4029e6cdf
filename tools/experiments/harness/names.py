"""What tables call a model, read off the name of its config."""

import re

_MODEL = re.compile(r'(effvit|efficientvit|mobilevit|swin|vit)_([a-z]+\d?)(?:_p(\d+))?(?:_r(\d+))?')
_FAMILIES = dict(effvit='EfficientViT', efficientvit='EfficientViT', mobilevit='MobileViT', swin='Swin', vit='ViT')
_DETECTORS = dict(mask_rcnn='Mask R-CNN', ssdlite='SSDLite')


def model_name(config: str) -> str:
    """The model of a config, without its merger: 'ssdlite_ltm_effvit_b1_200e' is 'SSDLite EfficientViT-B1'.

    Args:
        config (str): File name without suffix. One that does not follow this repository's pattern stays as it is.
    """
    match = _MODEL.search(config)
    if match is None:
        return config
    family, size, patch, _ = match.groups()
    words = [name for prefix, name in _DETECTORS.items() if config.startswith(prefix)]
    return ' '.join([*words, f'{_FAMILIES[family]}-{size.upper()}{f"/{patch}" if patch else ""}'])


def family(config: str) -> str:
    """Family of the backbone, in lower case: 'mobilevit', 'efficientvit', 'vit' or 'swin'.

    Raises:
        ValueError: The name does not follow this repository's pattern.
    """
    match = _MODEL.search(config)
    if match is None:
        raise ValueError(f'no family in the name of config {config!r}')
    return _FAMILIES[match.group(1)].lower()
