"""Imports point down: whoever reads a layer need not know what is above it."""

import ast
from pathlib import Path

#: Folders and files of the package from the bottom to the top; what stands together knows nothing of each other.
LAYERS = (('errors', ), ('registry', 'compat', 'structures', 'mim'), ('ib', ), ('merging', ), ('models', ),
          ('datasets', 'evaluation', 'visualization'), ('engine', ), ('apis', ), ('__main__', ))
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
OPENMMLAB = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'mmseg')
PACKAGE = Path(__file__).parents[1] / 'mmltm'


def imports():
    """Every import in the package: its file, below the package, and the full name of the module."""
    for path in sorted(PACKAGE.rglob('*.py')):
        file = path.relative_to(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((file, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = ['mmltm', *file.parts[:-1]][:len(file.parts) + 1 - node.level] if node.level else []
                module = '.'.join([*above, *filter(None, [node.module])])
                # from mmltm import compat, from . import bfloat16: the names are modules, too.
                yield from ((file, f'{module}.{alias.name}' if module == 'mmltm' else module) for alias in node.names)


def layer(name: str) -> str:
    return name.removesuffix('.py')


def test_every_folder_has_a_place():
    assert {layer(path.name) for path in PACKAGE.iterdir() if path.suffix == '.py' or (path / '__init__.py').exists()
            or list(path.glob('*.py'))} == {*RANK, '__init__'}


def test_imports_point_down():
    upward = []
    for file, module in imports():
        here, (top, *names) = layer(file.parts[0]), module.split('.')
        if top != 'mmltm' or not names or here == '__init__' or names[0] == here or names[0] == '__version__':
            continue
        if RANK[names[0]] >= RANK[here]:
            upward.append(f'mmltm/{file} imports {module}')
    assert not upward


def test_the_mathematics_knows_no_openmmlab():
    assert not [f'mmltm/{file} imports {module}' for file, module in imports()
                if file.parts[0] in ('ib', 'merging') and module.split('.')[0] in OPENMMLAB]


def test_the_package_imports_no_tool():
    outside = {path.stem for path in (PACKAGE.parent / 'tools').rglob('*.py')} | {'tools', 'harness', 'tests'}
    outside -= {'test', '__init__'}
    assert not [f'mmltm/{file} imports {module}' for file, module in imports() if module.split('.')[0] in outside]
