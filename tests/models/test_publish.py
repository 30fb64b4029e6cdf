"""tools/model_converters/publish.py; what it wrote is read from a file, a URL and a hub, served by this machine."""

import http.server
import json
import runpy
import sys
import threading
from functools import partial

import huggingface_hub.constants
import pytest
import torch

import mmltm
from mmltm.errors import UserError
from mmltm.models.checkpoints import read_checkpoint

NAME = 'ltm_mobilevit_xxs'


class Hub(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, and each as ``/OWNER/REPOSITORY/resolve/REVISION/FILE`` as well."""

    def translate_path(self, path):
        return super().translate_path(f'/{path.rpartition("/")[2]}')

    def end_headers(self):
        self.send_header('ETag', '"1"')
        self.send_header('X-Repo-Commit', 'a' * 40)
        super().end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope='module')
def published(root, tmp_path_factory):
    """The model, and the folder of what was published of its checkpoint."""
    folder = tmp_path_factory.mktemp('published')
    model = mmltm.get_model(NAME, num_classes=3)
    optimizer = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    meta = dict(dataset_meta=dict(classes=('a', 'b', 'c')), cfg='x = 1', epoch=2, experiment_name='mine')
    torch.save(dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict(), meta=meta), folder / 'epoch_2.pth')
    before, paths = sys.argv, [str(folder / 'epoch_2.pth'), str(folder / 'small')]
    for kind in ('pth', 'safetensors'):
        sys.argv = ['publish.py', *paths, '--format', kind, '--note', 'good']
        runpy.run_path(str(root / 'tools' / 'model_converters' / 'publish.py'), run_name='__main__')
    sys.argv = before
    return model, folder


@pytest.fixture
def address(published, monkeypatch, tmp_path):
    """Of a server of this folder; nothing was downloaded before."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Hub, directory=published[1]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}'
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'torch'))
    monkeypatch.setattr(huggingface_hub.constants, 'ENDPOINT', url)
    monkeypatch.setattr(huggingface_hub.constants, 'HUGGINGFACE_CO_URL_TEMPLATE',
                        url + '/{repo_id}/resolve/{revision}/{filename}')
    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    yield url
    server.shutdown()
    server.server_close()


def file_of(folder, kind):
    return next(folder.glob(f'small-*.{kind}'))


@pytest.mark.parametrize('kind', ['pth', 'safetensors'])
def test_what_stays(published, kind):
    model, folder = published
    path = file_of(folder, kind)
    content = read_checkpoint(str(path))
    assert content.keys() == {'state_dict', 'meta'} and content['state_dict'].keys() == model.state_dict().keys()
    assert content['meta'] == dict(dataset_meta=dict(classes=['a', 'b', 'c']), cfg='x = 1', epoch=2, note='good',
                                   mmltm_version=mmltm.__version__)
    assert path.stat().st_size < 0.6 * (folder / 'epoch_2.pth').stat().st_size


@pytest.mark.parametrize('kind', ['pth', 'safetensors'])
@pytest.mark.parametrize('form', ['{folder}/{file}', '{url}/{file}', 'hf://me/models/{file}',
                                  'hf://me/models/{file}@v1'])
def test_loads_from(published, address, kind, form):
    model, folder = published
    checkpoint = form.format(folder=folder, url=address, file=file_of(folder, kind).name)
    loaded = mmltm.get_model(NAME, num_classes=3, checkpoint=checkpoint)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_damaged_download_is_refused(published, address):
    (published[1] / 'small-00000abc.pth').write_bytes(file_of(published[1], 'pth').read_bytes())
    for form, message in (('{}/small-00000abc.pth', 'invalid hash value'), ('{}/gone-1.pth', '404'),
                          ('hf://me/models', 'names no file')):
        with pytest.raises(UserError, match=message):
            mmltm.get_model(NAME, num_classes=3, checkpoint=form.format(address))


def test_metadata_is_json(published):
    with file_of(published[1], 'safetensors').open('rb') as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), 'little')))
    assert json.loads(header['__metadata__']['mmltm'])['note'] == 'good'
