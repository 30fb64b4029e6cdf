"""Checkpoints of all kinds are read without running them, and tools/model_converters/convert_weights.py on them."""

import argparse
import runpy
import sys

import pytest
import safetensors.torch
import timm
import torch

import mmltm
from mmltm.errors import UserError
from mmltm.models.convert import read_weights


@pytest.fixture
def call(root, monkeypatch, tmp_path):
    """Runs the tool in this process, in an empty folder; returns its error line, or None."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['convert_weights.py', *arguments])
        try:
            runpy.run_path(str(root / 'tools' / 'model_converters' / 'convert_weights.py'), run_name='__main__')
        except SystemExit as stop:
            return stop.code

    return run


STATE = dict(weight=torch.arange(3.), bias=torch.zeros(1))


@pytest.mark.parametrize('content, within', [
    (STATE, ''),
    (dict(state_dict=STATE, meta=dict(epoch=3)), 'state_dict'),
    (dict(model={f'module.{name}': value for name, value in STATE.items()}, args=argparse.Namespace(lr=1)), 'model'),
    (dict(state_dict=dict(weight=torch.ones(1)), state_dict_ema=STATE), 'state_dict_ema'),
    (dict(state_dict={f'module._orig_mod.{name}': value for name, value in STATE.items()}), 'state_dict')])
def test_nested_weights(content, within, tmp_path):
    path = str(tmp_path / 'x.pth')
    torch.save(content, path)
    state, found = read_weights(path)
    assert found == within and state.keys() == STATE.keys() and torch.equal(state['weight'], STATE['weight'])


def test_safetensors(tmp_path):
    path = str(tmp_path / 'x.safetensors')
    safetensors.torch.save_file(STATE, path)
    assert torch.equal(read_weights(path)[0]['weight'], STATE['weight'])


@pytest.mark.parametrize('name, content, message', [
    ('x.pth', dict(state_dict=STATE, hook=print), r'more than tensors \((builtins.)?print\).*may run code'),
    ('x.pth', b'no checkpoint', 'cannot read checkpoint .*x.pth: '),
    ('x.safetensors', b'no checkpoint', 'cannot read checkpoint .*x.safetensors: '),
    ('x.pth', dict(epoch=3), 'holds no weights'), ('x.pth', [1], 'holds no weights'),
    ('x.pth', None, 'x.pth does not exist')])
def test_what_cannot_be_read(name, content, message, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        read_weights(str(path))


def test_converts_and_lists_masks(call, tmp_path, capsys):
    reference = timm.create_model('mobilevit_xxs', pretrained=False, num_classes=5)
    safetensors.torch.save_file(reference.state_dict(), tmp_path / 'x.safetensors')
    assert call('x.safetensors', 'new/y.pth', '--model', 'ltm_mobilevit_xxs') is None
    printed = capsys.readouterr().out
    assert 'weights of timm' in printed and 'unlearnt (18):\n  backbone.layers.2.1.mergers.0.' in printed
    assert 'only' not in printed and '311 keys of ltm_mobilevit_xxs written to new/y.pth' in printed
    meta = torch.load('new/y.pth', weights_only=True)['meta']
    assert meta == dict(
        mmltm_version=mmltm.__version__, model='ltm_mobilevit_xxs', source='timm', file='x.safetensors')
    mmltm.get_model('mobilevit_xxs', num_classes=5, checkpoint='new/y.pth')


def test_partial_results_only_on_demand(call, tmp_path, capsys):
    state = timm.create_model('efficientvit_b0', pretrained=False, num_classes=0).state_dict()
    state['extra.weight'] = torch.zeros(2)
    torch.save(state, 'x.pth')
    line = call('x.pth', 'y.pth', '--model', 'efficientvit_b0')
    assert line.startswith('error: only ') and '--partial' in line and not (tmp_path / 'y.pth').exists()
    printed = capsys.readouterr().out
    assert 'in SRC only (1):\n  extra.weight\n' in printed and '\n  head.fc.bias\n' in printed
    assert call('x.pth', 'y.pth', '--model', 'efficientvit_b0', '--partial') is None
    model = mmltm.get_model('efficientvit_b0', checkpoint='y.pth')
    assert torch.equal(model.backbone.stem[0].conv.weight, state['stem.in_conv.conv.weight'])


@pytest.mark.parametrize('arguments, message', [
    (('x.pth', './x.pth', '--model', 'vit_t'), 'error: SRC and DST are the same file, x.pth'),
    (('x.pth', 'y.pth', '--model', 'vit_t', '--partial'), 'error: no key of x.pth matches vit_t'),
    (('x.pth', 'y.pth', '--model', 'vit'), 'error: unknown model'),
    (('gone.pth', 'y.pth', '--model', 'vit_t'), 'error: checkpoint gone.pth does not exist')])
def test_errors_are_one_line(arguments, message, call, tmp_path):
    torch.save(STATE, tmp_path / 'x.pth')
    line = call(*arguments)
    assert line.startswith(message) and '\n' not in line and not (tmp_path / 'y.pth').exists()
