"""A forward pass as a plain call: in PyTorch, eager, compiled or as a CUDA graph, or in another runtime."""

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmltm.apis.profiling import network_call
from mmltm.errors import UserError

RUNTIMES = ('eager', 'compile', 'cudagraph', 'onnxruntime', 'openvino')
#: Of these, the ones that take an exported model.
EXPORTED = ('onnxruntime', 'openvino')


def check_runtimes(runtimes: Sequence[str], device: torch.device, amp: bool) -> None:
    """Refuse by a :class:`UserError` what cannot run here."""
    if 'cudagraph' in runtimes and device.type != 'cuda':
        raise UserError('runtime cudagraph needs a GPU: --device cuda')
    for runtime in set(EXPORTED).intersection(runtimes):
        if device.type != 'cpu' or amp:
            raise UserError(f'runtime {runtime} is measured on the CPU in float32: --device cpu, no --amp')
        if any(importlib.util.find_spec(name) is None for name in (runtime, 'onnx', 'onnxscript')):
            raise UserError(f"runtime {runtime} is not installed: pip install 'mmltm[deploy]'")


class Runnable:
    """Calls without arguments of a model on a batch of images, one for every runtime; each runs once before it returns.

    Args:
        model (BaseModel): Classifier or detector in evaluation mode.
        scope (str): 'network', with post-processing, or 'backbone'.
        inputs (Tensor): Normalised images, (B, 3, H, W); exported models, which normalise themselves, take them for
            pixels.
        amp (bool): Autocast, in PyTorch.
    """

    def __init__(self, model: BaseModel, scope: str, inputs: Tensor, amp: bool = False) -> None:
        self.model, self.scope, self.inputs, self.amp = model, scope, inputs, amp

    def call(self, runtime: str) -> Callable[[], Any]:
        """The call of a runtime, which uses as many threads of the CPU as torch does."""
        call = getattr(self, f'_{runtime}')()
        with torch.inference_mode():
            call()
        return call

    def _eager(self) -> Callable[[], Any]:
        call = partial(self.model.backbone, self.inputs) if self.scope == 'backbone' else network_call(
            self.model, self.inputs, predict=True)
        return torch.autocast(self.inputs.device.type)(call) if self.amp else call

    def _compile(self) -> Callable[[], Any]:
        return torch.compile(self._eager())

    def _cudagraph(self) -> Callable[[], Any]:
        call, graph, stream = self._eager(), torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode():
            with torch.cuda.stream(stream):  # libraries choose their kernels before anything is captured
                for _ in range(3):
                    call()
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph):
                call()
        return graph.replay

    def _onnxruntime(self) -> Callable[[], Any]:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self._onnx, options, providers=['CPUExecutionProvider'])
        return partial(session.run, None, self._arrays([value.name for value in session.get_inputs()]))

    def _openvino(self) -> Callable[[], Any]:
        import openvino
        # float32 as in the other runtimes: by itself it takes bfloat16 where the processor has it.
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(self._onnx), 'CPU', dict(
            INFERENCE_NUM_THREADS=torch.get_num_threads(), NUM_STREAMS=1, INFERENCE_PRECISION_HINT='f32'))
        arrays = self._arrays([value.any_name for value in compiled.inputs])
        return partial(compiled.create_infer_request().infer, arrays, share_inputs=True, share_outputs=True)

    @cached_property
    def _onnx(self) -> bytes:
        """The exported model, made once for all runtimes."""
        from mmltm.apis.export import trace, write_onnx
        from mmltm.models.deploy import deploy
        from mmltm.models.exportable import exportable
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad():
            path, (batch, _, height, width) = Path(folder) / 'model.onnx', self.inputs.shape
            wrapped = exportable(deploy(self.model, (height, width)), self.scope == 'backbone')
            write_onnx(trace(wrapped, (height, width), batch=batch), wrapped.outputs, path, {})
            return path.read_bytes()

    def _arrays(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        shape, batch = self.inputs.shape[-2:], len(self.inputs)
        arrays = dict(image=self.inputs.cpu().numpy(), size=np.array([shape] * batch, np.float32))
        return {name: arrays[name] for name in names}
