"""Packaging of mmltm; `pip install -e .[onedl]` for users, `[tests]` on top for developers."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'mmltm/__init__.py').read_text()).group(1)

setup(
    name='mmltm',
    version=VERSION,
    description='Vision backbones with learnable token merging for mmpretrain and mmdetection',
    long_description=(ROOT / 'README.md').read_text() if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    python_requires='>=3.10',
    license='Apache-2.0',
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmltm', 'mmltm.*']),
    package_data={'mmltm': ['py.typed']},
    install_requires=['torch>=2.4', 'torchvision', 'numpy', 'scipy', 'opencv-python', 'rich', 'matplotlib'],
    # Both families own the import names mmengine, mmcv, mmdet and mmpretrain,
    # so neither may be a hard requirement: installing one over the other breaks both.
    extras_require={
        'onedl': [
            'onedl-mmengine==0.10.12', 'onedl-mmcv==2.3.6',
            'onedl-mmdetection==3.5.1', 'onedl-mmpretrain==1.3.6',
        ],
        'openmmlab': ['mmengine>=0.10.4', 'mmcv>=2.0.1,<2.2.0', 'mmdet>=3.3.0', 'mmpretrain>=1.2.0'],
        # The data sets and the tables of this repository.
        'tools': ['shapely', 'pyyaml', 'pandas', 'pycocotools'],
        # tools/deployment; torch.onnx writes by onnxscript.
        'deploy': ['onnx', 'onnxruntime', 'onnxscript', 'openvino'],
        'fuzz': ['atheris', 'hypothesis'],  # tests/fuzz
        'tests': ['pytest', 'hypothesis', 'timm', 'ruff', 'mypy', 'shapely', 'pyyaml', 'pandas', 'pycocotools', 'onnx',
                  'onnxruntime', 'onnxscript'],
    },
)
