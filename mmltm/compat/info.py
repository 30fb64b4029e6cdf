"""What environment reports (``mmcv.utils.collect_env``) print in place of mmcv's compilers."""

import torchvision


def get_compiler_version() -> str:
    """Which library computes the operators."""
    return f'none (mmltm: operators of torchvision {torchvision.__version__})'


get_compiling_cuda_version = get_compiler_version
