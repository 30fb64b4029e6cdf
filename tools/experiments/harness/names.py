"""What tables call a model, read off the name of its config."""

import re

_CONFIG = re.compile(r'(?:(?P<detector>mask_rcnn|ssdlite|upernet|deeplabv3)_)?(?:ltm_)?(?P<family>[a-z0-9]+)_'
                     r'(?P<seg>seg_)?(?:ltm_)?(?P<size>[a-z]{1,3}\d?|mini)(?=_|$)(?:_p(?P<patch>\d+))?')
_DETECTORS = dict(mask_rcnn='Mask R-CNN', ssdlite='SSDLite', upernet='UPerNet', deeplabv3='DeepLabV3')
#: Display names of families, by what names of configs call them.
FAMILIES = dict(mobilevit='MobileViT', efficientvit='EfficientViT', effvit='EfficientViT', vit='ViT', swin='Swin',
                swinv2='SwinV2', vitdet='ViTDet', dinov2='DINOv2')


def model_name(config: str) -> str:
    """The model of a config, without its merger: 'ssdlite_ltm_effvit_b1_200e' is 'SSDLite EfficientViT-B1'.

    Args:
        config (str): File name without suffix. One that does not follow this repository's pattern stays as it is.
    """
    match = _CONFIG.match(config)
    if match is None or match['family'] not in FAMILIES:
        return config
    patch = f'/{match["patch"]}' if match['patch'] else ''
    name = family(config) + ('-Seg' if match['seg'] else '')
    return f'{_DETECTORS.get(match["detector"], "")} {name}-{match["size"].upper()}{patch}'.strip()


def family(config: str) -> str:
    """Display name of the family of a config's backbone; of an unknown one what the config calls it."""
    match = _CONFIG.match(config)
    word = match['family'] if match else config
    return FAMILIES.get(word, word)
