"""demo/app.py, clicked through in a browser.

    pip install gradio playwright, and chromium of the system
    python -m pytest -m nightly tests/demo/test_app.py
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch

from mmltm.apis.config import load_config
from mmltm.models.builder import build_from

pytestmark = pytest.mark.nightly
CONFIG = 'configs/mini/mask_rcnn_ltm_effvit_mini.py'


@pytest.fixture(scope='module')
def address(root, tmp_path_factory):
    """Of the page, with a detector of random weights."""
    pytest.importorskip('gradio')
    cfg = load_config(str(root / CONFIG))
    model = build_from(cfg)
    checkpoint = tmp_path_factory.mktemp('demo') / 'random.pth'
    meta = dict(dataset_meta=dict(cfg.train_dataloader.dataset.metainfo, palette=[(200, 80, 40)] * 5))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    env = dict(os.environ, PYTHONPATH=str(root), OMP_NUM_THREADS='1')
    server = subprocess.Popen(
        [sys.executable, 'demo/app.py', CONFIG, str(checkpoint), '--images', 'demo', '--port', str(port),
         '--score-thr', '0'], cwd=root, env=env)
    url = f'http://127.0.0.1:{port}'
    for _ in range(120):
        try:
            urllib.request.urlopen(url)
            break
        except OSError:
            assert server.poll() is None
            time.sleep(1)
    yield url
    server.terminate()
    server.wait()


def test_click_through(address, tmp_path):
    playwright = pytest.importorskip('playwright.sync_api')
    browser = shutil.which('chromium') or pytest.skip('no chromium')
    with playwright.sync_playwright() as driver:
        page = driver.chromium.launch(executable_path=browser, args=['--no-sandbox']).new_page()
        page.set_default_timeout(240_000)
        page.goto(address)
        page.click('#predict')  # nothing is chosen yet
        page.wait_for_selector('text=choose a photograph first')
        page.set_input_files('input[type=file]', os.path.join(os.path.dirname(__file__), '../../demo/cat.jpg'))
        page.wait_for_selector('img[alt=""]', state='attached')
        page.click('#predict')
        page.wait_for_selector('#costs table')
        text = page.inner_text('#costs')
        macs = [float(number) for number in re.search(r'GMACs\s+(\S+)\s+(\S+)', text).groups()]
        assert macs[1] < macs[0] and 'masks of the checkpoint' in text
        for name in ('vanilla', 'merged', 'sheet'):
            page.wait_for_selector(f'#{name} img')
        page.screenshot(path=tmp_path / 'demo.png', full_page=True)
