"""The site of the documentation builds without a warning: links, anchors and the reference made of docstrings."""

import subprocess
import sys


def test_builds_strictly(root, tmp_path):
    done = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', str(tmp_path)], cwd=root,
                          capture_output=True, text=True)
    assert not done.returncode, done.stderr
    reference = (tmp_path / 'api' / 'index.html').read_text()
    assert 'mmltm.apis.model.get_model' in reference and 'ib_bound' in reference and ':func:' not in reference
    assert (tmp_path / 'results' / 'vit_mergers' / 'curves.png').is_file()
