"""The recipes in docs/ work as they stand: their code is written to files outside the package, and run."""

import os
import re
import subprocess
import sys

import pytest

RECIPES = ('add_a_merger', 'add_a_backbone')


@pytest.mark.parametrize('recipe', RECIPES)
def test_recipe_runs(recipe, root, tmp_path):
    files = re.findall(r'```python\n# (\w+\.py)\n(.*?)```', (root / f'docs/{recipe}.md').read_text(), re.DOTALL)
    for name, code in files:
        (tmp_path / name).write_text(code)
    # In a process of its own, for toys shall not stay in the registries that other tests go over.
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS='1')
    done = subprocess.run([sys.executable, files[-1][0]], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert len(files) > 1 and not done.returncode, done.stderr
