"""What a device does without torch: images, masks and run lengths are those of OpenMMLab's and pycocotools' code."""

import importlib.util
import subprocess
import sys

import numpy as np
import pycocotools.mask
import pytest
import torch
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from mmltm.apis.export_metadata import image_steps


@pytest.fixture(scope='module')
def infer(root):
    spec = importlib.util.spec_from_file_location('infer_onnx', root / 'tools/deployment/infer_onnx.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('scope, transforms', [
    ('mmpretrain', [dict(type='ResizeEdge', scale=73, edge='short', backend='pillow', interpolation='bicubic'),
                    dict(type='CenterCrop', crop_size=64)]),
    ('mmpretrain', [dict(type='ResizeEdge', scale=300, edge='long', backend='pillow', interpolation='bilinear')]),
    ('mmpretrain', [dict(type='Resize', scale=(50, 90), backend='pillow', interpolation='bicubic')]),
    ('mmpretrain', [dict(type='ResizeEdge', scale=60, edge='short'), dict(type='CenterCrop', crop_size=(48, 55))]),
    ('mmdet', [dict(type='Resize', scale=(320, 180), keep_ratio=True)]),
    ('mmdet', [dict(type='Resize', scale=(64, 96), keep_ratio=False)]),
    ('mmdet', [dict(type='Resize', scale=(160, 160), keep_ratio=True),
               dict(type='Pad', size=(160, 160), pad_val=dict(img=(114, 114, 114)))]),
], ids=lambda value: value if isinstance(value, str) else '-'.join(step['type'] for step in value))
@pytest.mark.parametrize('shape', [(121, 203), (164, 107)])
def test_pixels_are_those_of_the_pipeline(infer, scope, transforms, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    with DefaultScope.overwrite_default_scope(scope):
        steps = image_steps(Config(dict(test_dataloader=dict(dataset=dict(pipeline=transforms)))), None)
        expected = Compose(transforms)(dict(img=image, img_shape=image.shape[:2]))
    pixels, size, _ = infer.prepare(image, dict(steps=steps, shape=None, divisor=32, least=32, pad_value=[1., 2., 3.]))
    height, width = expected['img'].shape[:2]
    assert size == (height, width)
    np.testing.assert_array_equal(pixels[:, :height, :width].transpose(1, 2, 0), expected['img'])
    assert pixels.shape[1] % 32 == pixels.shape[2] % 32 == 0
    assert (pixels[:, height:] == np.array([1., 2., 3.])[:, None, None]).all()


def test_masks_are_pasted_as_mmdet_does(infer):
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(6, 28, 28, generator=generator)
    boxes = torch.tensor([[3.3, 4.1, 30.2, 25.7], [-5, -3, 20, 90], [60.5, 10, 99, 79.5], [10, 10, 10.2, 10.3],
                          [0, 0, 100, 80], [95.1, 70.2, 130, 99]])
    for mask, box in zip(masks, boxes):
        expected = torch.zeros(80, 100, dtype=torch.bool)
        part, where = _do_paste_mask(mask[None, None], box[None], 80, 100)
        expected[where] = part[0] >= 0.5
        pasted = infer.paste(mask.numpy(), box.numpy(), 80, 100, 0.5)
        assert (pasted != expected.numpy()).sum() == 0 and pasted.any() == expected.any()


@pytest.mark.parametrize('threshold', [0., 0.3, 0.97, 1.])
def test_run_lengths_are_those_of_pycocotools(infer, threshold):
    mask = np.random.default_rng(1).random((67, 45)) < threshold
    mask[:, 10:30] = mask[:1, 10:30]
    code = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert infer.run_lengths(mask) == dict(size=code['size'], counts=code['counts'].decode())


def test_neither_torch_nor_openmmlab_is_imported(root):
    code = (f'import sys; sys.path.insert(0, {str(root / "tools/deployment")!r}); import infer_onnx; '
            'print([name for name in sys.modules if name.split(".")[0] in '
            '("torch", "torchvision", "mmengine", "mmcv", "mmdet", "mmpretrain", "mmltm", "PIL", "pycocotools")])')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == '[]\n'
