"""Every family, with masks for all images and with masks that follow the image, in all that takes a graph of it."""

import io
import math
import warnings

import onnxruntime
import pytest
import torch
from mmengine.analysis import FlopAnalyzer

from mmltm.apis.profiling import count_macs
from mmltm.merging import LTM
from mmltm.merging.trace import mergers_of
from mmltm.models.mergers import TOKEN_MERGERS
from tests.models.small_backbones import FAMILIES, MODES

#: What ONNX has no operator for, and what constant masks have no need of.
OF_MAKING_MASKS = ('cholesky', 'sort', 'scatter', 'gather', 'topk', 'argmax', 'set_grad')


@torch.no_grad()
def jit_trace(model, x):
    return torch.jit.trace(model, x)


def program_of(model, x):
    return torch.export.export(model, (x, ), dynamic_shapes=({0: torch.export.Dim('batch')}, ))


def export(model, x):
    return program_of(model, x).module()


def compiled(model, x):
    return torch.compile(model, backend='eager', fullgraph=True)


def session(data):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    found = onnxruntime.InferenceSession(data, options)
    name = found.get_inputs()[0].name
    return lambda x: [torch.from_numpy(output) for output in found.run(None, {name: x.numpy()})]


def onnx_dynamo(model, x):
    program = program_of(model, x)
    names = {str(node.target) for node in program.graph.nodes if node.op == 'call_function'}
    if any(isinstance(merger, LTM) for merger in mergers_of(model).values()):
        assert not [name for name in names if any(part in name for part in OF_MAKING_MASKS)]
    return session(torch.onnx.export(program, dynamo=True, verbose=False, optimize=False)
                   .model_proto.SerializeToString())


def onnx_jit(model, x):
    file = io.BytesIO()
    torch.onnx.export(model, (x, ), file, dynamo=False, input_names=['x'], dynamic_axes={'x': {0: 'batch'}})
    return session(file.getvalue())


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
    torch._dynamo.reset()


def outputs_agree(take, model, expected, size):
    """The graph that ``take`` takes of a model with one batch gives what another like it gives, for two batch sizes."""
    graph = take(model, torch.randn(2, 3, *size))
    with torch.no_grad():
        for batch in (2, 2, 3):
            x = torch.randn(batch, 3, *size)
            for output, wanted in zip(graph(x), expected(x), strict=True):
                torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-4)


def cases():
    """All combinations; those of which each takes many seconds run nightly, but for one family."""
    for name in FAMILIES:
        for mode in MODES:
            for take in (jit_trace, onnx_jit, export, onnx_dynamo, compiled):
                quick = take in (jit_trace, onnx_jit) or (name, mode) == ('LTMVisionTransformer', 'instance')
                yield pytest.param(name, mode, take, marks=() if quick else pytest.mark.nightly,
                                   id=f'{name}-{mode}-{take.__name__}')


@pytest.mark.parametrize('name, mode, take', cases())
def test_a_graph_gives_the_same_outputs(name, mode, take):
    family = FAMILIES[name]
    outputs_agree(take, family.build(mode), family.build(mode), family.size)


@pytest.mark.parametrize('take', [jit_trace, *(
    pytest.param(take, marks=pytest.mark.nightly) for take in (export, onnx_dynamo, compiled))])
@pytest.mark.parametrize('kind', [kind for kind in TOKEN_MERGERS.module_dict if kind != 'LTM'])
def test_graphs_of_other_mergers(kind, take):
    if (kind, take) == ('LTMP', compiled):
        pytest.skip('how many tokens leave depends on them: the graph breaks')

    def build():
        torch.manual_seed(0)
        amount = dict(p=2) if kind == 'SoftMerging' else dict(ratio=0.6)
        model = FAMILIES['LTMVisionTransformer'].make(merger=dict(type=kind, **amount))
        for name, parameter in model.named_parameters():
            if name.endswith('_threshold'):  # of LTMP: at first no token leaves
                parameter.data.fill_(0.9)
        model.eval()
        return model

    outputs_agree(take, build(), build(), FAMILIES['LTMVisionTransformer'].size)


def attention(inputs, outputs):
    """Multiply-accumulates of fused attention, which mmengine's counter does not know: Q K^T and its product with V."""
    (*batch, queries, channels), keys = inputs[0].type().sizes(), inputs[1].type().sizes()[-2]
    return 2 * torch.Size(batch).numel() * queries * keys * channels


def relative_positions(inputs, outputs):
    """Those of ``einsum('bhwc,hkc->bhwk')``, of which mmengine reads a report in four digits."""
    return math.prod(outputs[0].type().sizes()) * next(inputs[1].node().inputs()).type().sizes()[-1]


@pytest.mark.parametrize('mode', [*MODES, None])
@pytest.mark.parametrize('name', FAMILIES)
def test_the_counter_of_mmengine_counts_as_ours(name, mode):
    family, x = FAMILIES[name], torch.randn(1, 3, *FAMILIES[name].size)
    model = family.build(mode) if mode else family.make().eval()
    counter = FlopAnalyzer(model, x).set_op_handle(**{
        'aten::scaled_dot_product_attention': attention, 'aten::einsum': relative_positions})
    products = {operator: count for operator, count in counter.by_operator().items()
                if operator in ('conv', 'linear', 'matmul', 'bmm', 'addmm', 'einsum',
                                'scaled_dot_product_attention')}
    assert sum(products.values()) == pytest.approx(count_macs(model, lambda: model(x))[''], rel=1e-6), products
