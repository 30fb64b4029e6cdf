"""The error for an mmcv operator that has no stand-in."""

from importlib.metadata import packages_distributions
from typing import NoReturn

import mmcv


def unsupported(name: str, *args, **kwargs) -> NoReturn:
    """Refuse an operator, whatever its arguments.

    Args:
        name (str): The operator.

    Raises:
        NotImplementedError: Always; names the operator and the command that compiles mmcv.
    """
    # The distribution and version at hand: upstream and fork share a name, and mmdet checks the version.
    distribution = packages_distributions().get('mmcv', ['onedl-mmcv'])[0]
    raise NotImplementedError(
        f"mmcv operator '{name}' needs a compiled mmcv, mmltm has no stand-in for it. Compile mmcv against "
        'the installed PyTorch with: pip install --no-build-isolation --no-cache-dir --no-deps '
        f'--force-reinstall --no-binary {distribution} {distribution}=={mmcv.__version__}')
