"""The command ``mmltm``, and configs by ``mmltm::NAME``."""

import os
import subprocess
import sys

import pytest
from mmengine.config import Config

from mmltm.__main__ import find_tool, main
from mmltm.apis.config import find_config
from mmltm.errors import UserError

NAME = 'mmltm::mask_rcnn_ltm_effvit_b1_1x.py'


@pytest.fixture
def config(tmp_path):
    """A config of someone else that builds on ours."""
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = '{NAME}'\nmodel = dict(backbone=dict(ratio=0.5))")
    return path


def test_a_config_builds_on_ours(config):
    mine, ours = Config.fromfile(config), Config.fromfile(find_config(NAME))
    ours.model.backbone.ratio = 0.5
    assert mine.to_dict() == ours.to_dict()  # with no scope in it but the default one, which is mmdet's


def test_tools_of_others_run(config, tmp_path, root):
    script = tmp_path / 'theirs.py'
    script.write_text('import sys, mmdet.models; from mmengine import Config; '
                      'print(__name__, sys.argv, Config.fromfile(sys.argv[1]).model.type)')
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, '-m', 'mmltm', str(script), str(config), '--x'], env=env, cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.stdout == f"__main__ {[str(script), str(config), '--x']} MaskRCNN\n", done.stderr


def test_order_of_imports_is_free(config, root):
    code = f"import mmengine.config, mmltm; print(mmengine.Config.fromfile('{config}').model.backbone.ratio)"
    env = dict(os.environ, PYTHONPATH=str(root))
    assert subprocess.check_output([sys.executable, '-c', code], env=env, text=True) == '0.5\n'


def test_lists_tools_with_what_they_do(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmltm'])
    main()
    text = capsys.readouterr().out
    assert 'train              Trains a model from a config of mmdet, mmpretrain or mmseg.' in text
    assert 'export' in text and 'check_coco' in text and '_bootstrap' not in text and 'harness' not in text


@pytest.mark.parametrize('name, tail', [
    ('train', 'tools/train.py'), ('get_flops', 'tools/analysis_tools/get_flops.py'),
    ('mmdet::train', 'mmdet/.mim/tools/train.py'), ('mmpretrain::test', 'mmpretrain/.mim/tools/test.py')])
def test_finds_tools(name, tail):
    assert find_tool(name).as_posix().endswith(tail)


@pytest.mark.parametrize('name, message', [
    ('trian', 'no tool is called trian; there is train'), ('mmdet::tset', 'there is mmdet::test'),
    ('gone.py', 'gone.py does not exist'), ('nothing::train', 'no package nothing is installed')])
def test_unknown_tools(name, message):
    with pytest.raises(UserError, match=message):
        find_tool(name)
