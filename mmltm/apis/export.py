"""Files of exported models: ``torch.export`` traces, and the ONNX exporter translates what it has traced.

One trace serves both formats. The older exporter follows Python's branches for one example, so that dynamic sizes come
out wrong without notice; this one proves each branch for all sizes, or says which it cannot.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from mmltm.compat.export_ops import onnx_translations
from mmltm.errors import UserError, summary
from mmltm.models.exportable import Exportable

# 18 has RoiAlign with max as well as half pixels, and is what the exporter is written for.
OPSET = 18


def least_side(divisor: int) -> int:
    """Pixels from which on a side may differ: as long as one cell is left of it, the tracer takes it for a constant."""
    return -(-256 // divisor) * divisor


def trace(model: Exportable, shape: tuple[int, int], dynamic: Sequence[str] = (), divisor: int = 32,
          batch: int = 1) -> ExportedProgram:
    """Trace a model for ``batch`` images of ``shape`` (height, width); ``dynamic`` may hold 'batch' and 'size'.

    Dynamic sizes are multiples of the divisor, from :func:`least_side` on.

    Raises:
        UserError: Something in the model depends on what is to be dynamic.
    """
    least = least_side(divisor)
    if 'size' in dynamic:  # an example of unequal sides
        shape = max(shape[0], 2 * least), max(shape[1], 2 * least + 2 * divisor)
    image = torch.zeros(2 if 'batch' in dynamic else batch, 3, *shape, device=next(model.parameters()).device)
    images = {0: Dim('batch', min=1, max=1024)} if 'batch' in dynamic else {}
    sides = {axis: divisor * Dim(f'{name}_units', min=least // divisor, max=4096 // divisor)
             for axis, name in ((2, 'height'), (3, 'width'))} if 'size' in dynamic else {}
    inputs: dict[str, Tensor] = dict(image=image)
    dims: dict[str, Any] = dict(image={**images, **sides})
    if 'size' in model.inputs:
        inputs['size'], dims['size'] = image.new_tensor([shape] * len(image)), images
    try:
        with torch.no_grad():
            return torch.export.export(model, (), inputs, dynamic_shapes=dims, strict=False)
    except Exception as error:  # whatever a model's code raises under trace
        what = f' with dynamic {" and ".join(dynamic)}' if dynamic else ''
        raise UserError(f'{type(model.model).__name__} cannot be traced{what}: {summary(error)[:500]}') from error


def write_onnx(program: ExportedProgram, names: Sequence[str], path: Path, meta: dict[str, Any]) -> None:
    """Translate a trace to ONNX; ``names`` are of its outputs, ``meta`` goes into its metadata as JSON."""
    # The exporter's own optimisation takes longer than all else, and runtimes fold and fuse when they load a model.
    onnx_program: Any = torch.onnx.export(
        program, dynamo=True, opset_version=OPSET, custom_translation_table=onnx_translations(),
        output_names=list(names) or None, optimize=False, verbose=False)
    onnx_program.model.metadata_props['mmltm'] = json.dumps(meta)
    onnx_program.save(str(path), external_data=False)


def quantise(path: Path, images: Iterator[dict[str, np.ndarray]]) -> None:
    """Replace the ONNX model at ``path`` by one that convolves and multiplies in int8, with ranges from images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def get_next(self):
            return next(images, None)

    meta = onnx.load(path).metadata_props
    quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
    quantize_static(str(path), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    op_types_to_quantize=['Conv', 'Gemm', 'MatMul'])
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in meta})
    onnx.save(model, path)
