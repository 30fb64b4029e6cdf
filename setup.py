"""Packaging of mmltm; `pip install -e .[onedl]` for users, `[tests]` on top for developers."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (ROOT / 'mmltm/__init__.py').read_text()).group(1)


class BuildWithMim(build_py):
    """Puts configs, tools and the model index into a wheel as ``mmltm/.mim``, where OpenMMLab's packages have theirs.

    Of a checkout's tools what makes and tests its environment stays out, and experiments but for the files that other
    tools share.
    """

    def run(self):
        super().run()
        if self.editable_mode:  # mmltm finds them beside the package
            return
        target = Path(self.build_lib, 'mmltm', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        for folder in ('configs', 'tools'):
            shutil.copytree(ROOT / folder, target / folder, ignore=self.left_out)
        shutil.copy(ROOT / 'model-index.yml', target)

    @staticmethod
    def left_out(folder, names):
        """Names in a folder that are not for users."""
        if Path(folder).name == 'experiments':
            return set(names) - {'harness'}
        return {'__pycache__', 'quickstart.sh', 'setup_env.sh', 'run_tests.sh'}


setup(
    name='mmltm',
    version=VERSION,
    description='Vision backbones with learnable token merging for mmpretrain, mmdetection and mmsegmentation',
    long_description=(ROOT / 'README.md').read_text() if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    python_requires='>=3.10',
    license='Apache-2.0',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmltm', 'mmltm.*']),
    package_data={'mmltm': ['py.typed']},
    cmdclass={'build_py': BuildWithMim},
    entry_points={'console_scripts': ['mmltm = mmltm.__main__:entry']},
    install_requires=['torch>=2.4', 'torchvision', 'numpy', 'scipy', 'opencv-python', 'rich', 'matplotlib'],
    # Both families own the import names mmengine, mmcv, mmdet and mmpretrain,
    # so neither may be a hard requirement: installing one over the other breaks both.
    extras_require={
        'onedl': [
            'onedl-mmengine==0.10.12', 'onedl-mmcv==2.3.6',
            'onedl-mmdetection==3.5.1', 'onedl-mmpretrain==1.3.6',
        ],
        'openmmlab': ['mmengine>=0.10.4', 'mmcv>=2.0.1,<2.2.0', 'mmdet>=3.3.0', 'mmpretrain>=1.2.0'],
        # Semantic segmentation, beside `onedl`.
        'seg': ['onedl-mmsegmentation==1.4.2'],
        # The data sets and the tables of this repository.
        'tools': ['shapely', 'pyyaml', 'pandas', 'pycocotools'],
        # tools/deployment; torch.onnx writes by onnxscript.
        'deploy': ['onnx', 'onnxruntime', 'onnxscript', 'openvino'],
        'fuzz': ['atheris', 'hypothesis'],  # tests/fuzz
        # checkpoint='hf://...', and tools/model_converters/publish.py.
        'hub': ['huggingface_hub', 'safetensors'],
        'demo': ['gradio'],
        'docs': ['mkdocs-material', 'mkdocstrings[python]'],
        'tests': ['pytest', 'hypothesis', 'timm', 'ruff', 'mypy', 'shapely', 'pyyaml', 'pandas', 'pycocotools', 'onnx',
                  'onnxruntime', 'onnxscript', 'huggingface_hub', 'safetensors', 'mkdocs-material',
                  'mkdocstrings[python]', 'nbclient', 'ipykernel'],
    },
)
