"""The command ``mmltm``, or ``python -m mmltm``: runs a tool of this package, or another project's, by name or path.

usage: mmltm TOOL [ARGUMENT ...]

  mmltm train CONFIG                 a tool of this package; mmltm train --help explains its arguments
  mmltm mmdet::train CONFIG          mmdet's own, or mmpretrain's; mmltm comes first, and with it what stands in for
  mmltm path/to/a_tool.py ...        operators that mmcv lacks, and configs that build on mmltm::NAME

CONFIG is a file, or mmltm::mask_rcnn_ltm_effvit_b1_1x.py for one that comes with the package.
"""

import ast
import difflib
import runpy
import sys
from pathlib import Path

from mmengine.utils import get_installed_path, is_installed

from mmltm import mim
from mmltm.errors import UserError, run

#: Of a checkout's tools, those that belong to no user, or are none.
_LEFT_OUT = ('_bootstrap', 'torchrun', 'experiments')


def tools(folder: Path) -> dict[str, Path]:
    """The tools in a folder and below it, by name."""
    paths = sorted(folder.rglob('*.py'), key=lambda path: (len(path.parts), path))
    return {path.stem: path for path in paths if not {path.stem, *path.relative_to(folder).parts} & {*_LEFT_OUT}}


def find_tool(name: str) -> Path:
    """The file of a tool. A UserError suggests names like an unknown one."""
    package, separator, tool = name.rpartition('::')
    if name.endswith('.py'):
        if not Path(name).is_file():
            raise UserError(f'tool {name} does not exist')
        return Path(name)
    if package and not is_installed(package):
        raise UserError(f'tool {name}: no package {package} is installed')
    known = tools((Path(get_installed_path(package)) / '.mim' if package else mim.FOLDER) / 'tools')
    if tool not in known:
        similar = [package + separator + other for other in difflib.get_close_matches(tool, known, n=3) or known]
        raise UserError(f'no tool is called {name}; there is {", ".join(similar)}')
    return known[tool]


def main() -> None:
    """Runs the tool that the command line names, or lists what there is."""
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        print(__doc__)
        for name, path in tools(mim.FOLDER / 'tools').items():
            about = (ast.get_docstring(ast.parse(path.read_text())) or '').partition('\n')[0]
            print(f'  {name:<18} {about}')
        return
    name = sys.argv.pop(1)
    path = find_tool(name)
    sys.argv[0] = str(path)
    sys.path[0] = str(path.parent)  # as if Python had been called with it
    runpy.run_path(str(path), run_name='__main__')


def entry() -> None:
    """The console script."""
    run(main)


if __name__ == '__main__':
    entry()
