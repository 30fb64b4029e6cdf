"""The notebook in demo/ runs from its first cell to its last."""

import shutil

import nbformat
from nbclient import NotebookClient


def test_tour(root, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(root))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    shutil.copy(root / 'demo' / 'cat.jpg', tmp_path)
    notebook = nbformat.read(root / 'demo' / 'ltm_tour.ipynb', as_version=4)
    NotebookClient(notebook, timeout=300, resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    texts = [output.get('text', '') for cell in notebook.cells for output in cell.get('outputs', [])]
    assert 'of the time' in ''.join(texts) and (tmp_path / 'merged.onnx').is_file()
