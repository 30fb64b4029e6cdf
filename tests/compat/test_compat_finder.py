import importlib
import importlib.util
import inspect
import os
import pickle
import re
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import mmcv
import pytest
import torch
from mmcv import ops
from mmcv.ops import RoIAlign
from mmcv.utils import collect_env

from mmltm.compat import install
from mmltm.compat.finder import ExtFinder

ext = importlib.import_module('mmcv._ext')


def run(code, *folders, root):
    """A fresh interpreter that looks for packages in ``folders`` first."""
    path = os.pathsep.join(map(str, (*folders, root)))
    return subprocess.run([sys.executable, '-c', code], env={**os.environ, 'PYTHONPATH': path},
                          capture_output=True, text=True)


@pytest.fixture
def fake_mmcv(tmp_path):
    """An mmcv package without operators."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').write_text('')
    return tmp_path


def test_install_twice_is_install_once():
    before = list(sys.meta_path)
    assert before.count(ExtFinder) == 1
    install()
    assert sys.meta_path == before


@pytest.mark.parametrize('name', ['mmcv', 'mmcv.ops', '_ext', 'mmcv._ext.nms', 'other._ext'])
def test_finder_answers_for_nothing_else(name):
    assert ExtFinder.find_spec(name) is None


def test_importing_the_package_imports_no_heavy_one(root):
    code = "import sys, mmltm; print({'torch', 'torchvision', 'mmcv', 'mmengine'} & set(sys.modules))"
    assert run(code, root=root).stdout == 'set()\n'


def test_finding_imports_no_operator(fake_mmcv, root):
    code = ("import sys, mmltm; from importlib.util import find_spec; print(find_spec('mmcv._ext').origin); "
            "print('torch' in sys.modules)")
    origin, loaded = run(code, fake_mmcv, root=root).stdout.split()
    assert Path(origin) == root / 'mmltm/compat/ext.py' and loaded == 'False'


def test_a_compiled_extension_wins(fake_mmcv, root):
    compiled = fake_mmcv / 'mmcv/_ext.py'
    compiled.write_text('nms = "compiled"')
    done = run('import mmltm, mmcv._ext as ext; print(ext.nms, ext.__file__)', fake_mmcv, root=root)
    assert done.stdout.split() == ['compiled', str(compiled)]


def test_a_broken_compiled_extension_is_not_hidden(fake_mmcv, root):
    (fake_mmcv / f'mmcv/_ext{EXTENSION_SUFFIXES[0]}').write_bytes(b'not a library')
    done = run('import mmltm, mmcv._ext', fake_mmcv, root=root)
    assert done.returncode != 0 and 'ImportError' in done.stderr


def test_the_module_withstands_probing():
    assert ext.__spec__.name == 'mmcv._ext' and ext.__spec__.loader is ext.__loader__
    assert importlib.import_module('mmcv._ext') is ext
    assert importlib.util.find_spec('mmcv._ext') is ext.__spec__
    for name in ('__path__', '__wrapped__', '__test__', '_repr_html_'):
        assert not hasattr(ext, name)
    assert set(ext.__all__) <= {name for name, _ in inspect.getmembers(ext, callable)}
    assert pickle.loads(pickle.dumps(ext.nms)) is ext.nms
    with pytest.raises(NotImplementedError, match='knn_forward'):
        pickle.loads(pickle.dumps(ext.knn_forward))()


@pytest.mark.parametrize('name', sorted(ext.__all__))
def test_arguments_are_those_of_the_compiled_operator(name):
    bindings = (Path(mmcv.__file__).parent / 'ops/csrc/pytorch/pybind.cpp').read_text()
    binding = re.search(rf'm\.def\("{name}", .*?\);', bindings, re.DOTALL).group()
    names = re.findall(r'py::arg\("(\w+)"\)', binding)
    parameters = inspect.signature(getattr(ext, name)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == names[:len(positional)]
    inspect.signature(getattr(ext, name)).bind(**dict.fromkeys(names))


@pytest.mark.parametrize('package', ['mmdet.models', 'mmdet.apis', 'mmpretrain.models'])
def test_packages_import(package):
    importlib.import_module(package)


@pytest.mark.parametrize('name, call', [
    ('nms_rotated', lambda: ops.nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5)),
    ('roi_pool_forward', lambda: ops.roi_pool(torch.rand(1, 1, 4, 4), torch.zeros(1, 5), 2)),
    ("roi_align with pool_mode='max'",
     lambda: RoIAlign(2, pool_mode='max')(torch.rand(1, 1, 4, 4), torch.zeros(1, 5))),
    ('box_iou_rotated', lambda: ops.box_iou_rotated(torch.rand(3, 5), torch.rand(3, 5))),
    ('an_operator_of_the_future', lambda: ext.an_operator_of_the_future(1, key=2)),
])
def test_other_operators_say_what_is_missing(name, call):
    with pytest.raises(NotImplementedError) as error:
        call()
    message = str(error.value)
    assert message.startswith(f"mmcv operator '{name}' needs a compiled mmcv")
    assert '--no-build-isolation' in message and message.endswith(f'mmcv=={mmcv.__version__}')
    assert '\n' not in message


def test_environment_report_names_the_stand_in():
    assert 'torchvision' in collect_env()['MMCV Compiler']
