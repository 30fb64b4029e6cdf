"""tools/train.py and the scripts around it, run as a user runs them."""

import re
import subprocess
import sys

import pytest


@pytest.fixture(scope='module')
def trained(tiny_coco, tiny_config, tmp_path_factory, run_tool, root):
    """Two processes on the CPU train for an epoch; one of the four images is corrupt."""
    image = tiny_coco / 'train2017' / '002.png'
    content = image.read_bytes()
    image.write_bytes(b'not an image')
    cwd = tmp_path_factory.mktemp('anywhere')
    process = run_tool(
        'bash', root / 'tools' / 'dist_train.sh', tiny_config, 2, '--data-root', tiny_coco, cwd=cwd)
    image.write_bytes(content)
    return process, cwd / 'work_dirs' / 'tiny'


def test_trains_in_two_processes_from_any_folder(trained):
    process, work_dir = trained
    assert process.returncode == 0, process.stderr[-3000:]
    assert (work_dir / 'epoch_1.pth').is_file()
    assert 'Epoch(train) [1][1/1]' in process.stdout
    assert 'eta:' in process.stdout and 'loss_mask:' in process.stdout
    assert 'coco/segm_mAP' in process.stdout


def test_corrupt_image_is_named_and_counted(trained, tiny_coco):
    process, _ = trained
    assert f'Skipped image {tiny_coco}/train2017/002.png' in process.stdout
    # its substitute, drawn at random, may be itself
    assert re.search('Corrupt images skipped in epoch 1: [1-9]', process.stdout)


def test_unknown_config_ends_with_one_line(run_tool, root, tmp_path):
    name = 'mask_rcnn_ltm_effvit_b1_2x.py'
    process = run_tool(sys.executable, root / 'tools' / 'train.py', name, cwd=tmp_path)
    assert process.returncode == 1
    assert process.stderr.startswith(f'error: config {name} does not exist; did you mean')
    assert 'configs/mask_rcnn_ltm_effvit_b1_1x.py' in process.stderr
    assert process.stderr.count('\n') == 1


def test_ctrl_c_while_a_tool_starts(root, run_tool):
    process = run_tool(sys.executable, '-c', f'import signal, sys; sys.path.insert(0, {str(root / "tools")!r}); '
                       'import _bootstrap; signal.raise_signal(signal.SIGINT)', cwd=root)
    assert process.returncode == 130
    assert process.stderr == 'interrupted while starting: nothing has been written\n'


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_scripts_parse_and_tell_their_usage(root, script):
    path = root / 'tools' / script
    subprocess.run(['bash', '-n', path], check=True)
    process = subprocess.run(['bash', path], capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.startswith('usage:')
