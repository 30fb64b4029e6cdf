"""Files are written whole or not at all; a damaged checkpoint costs no more than its own steps."""

import re
import resource
import signal
from contextlib import ExitStack, contextmanager

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import dump
from mmengine.runner import save_checkpoint

from mmltm.apis.runner import prepare_work_dir
from mmltm.engine.whole_files import is_whole, newest_whole_checkpoint
from mmltm.errors import UserError
from tests.engine.faults import status, train
from tests.engine.small_runs import Accuracy, assert_same, final_state, runner, write_config


@contextmanager
def full_disk(limit):
    """No file may grow beyond ``limit`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    for path, save in ((tmp_path / 'a.pth', save_checkpoint), (tmp_path / 'a.pkl', dump)):
        save({'x': torch.zeros(9)}, str(path))
        content = path.read_bytes()
        with full_disk(4000), pytest.raises(UserError, match=r'cannot write .*/a.p\w+ \(0.\d MB\): .*--resume'):
            save({'x': torch.zeros(99999)}, str(path))
        assert path.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 2


def test_ctrl_c_leaves_no_half_file(tmp_path, monkeypatch):
    monkeypatch.setattr('os.fsync', lambda file: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint({}, str(tmp_path / 'a.pth'))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def checkpoints(tmp_path):
    """Two checkpoints of epochs, the tenth the last, and the best, which is no state of a training."""
    for name in ('epoch_9', 'epoch_10', 'best_value_epoch_11'):
        save_checkpoint(dict(x=torch.arange(999)), str(tmp_path / f'{name}.pth'))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_10.pth'))
    return tmp_path


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize('damage', [cut, flip, lambda path: path.write_bytes(b''), lambda path: path.unlink()])
def test_resumes_from_the_newest_whole_checkpoint(checkpoints, damage):
    last, before = (str(checkpoints / f'epoch_{epoch}.pth') for epoch in (10, 9))
    assert newest_whole_checkpoint(checkpoints) == (last, [])
    damage(checkpoints / 'epoch_10.pth')
    assert newest_whole_checkpoint(checkpoints) == (before, [last])
    cut(checkpoints / 'epoch_9.pth')
    with pytest.raises(UserError, match='cannot resume: .*epoch_10.pth, .*epoch_9.pth missing or damaged'):
        newest_whole_checkpoint(checkpoints)


@pytest.mark.parametrize('note', ['', None, '/moved/elsewhere/epoch_10.pth'])
def test_finds_it_without_the_note_that_names_it(checkpoints, note):
    path = checkpoints / 'last_checkpoint'
    path.unlink() if note is None else path.write_text(note)
    assert newest_whole_checkpoint(checkpoints)[0] == str(checkpoints / 'epoch_10.pth')


def test_nothing_to_resume(tmp_path):
    assert newest_whole_checkpoint(tmp_path) == (None, [])


def test_unwritable_work_dir(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot write to work dir .*/file/run: Not a directory; choose another'):
        prepare_work_dir(Config(dict(work_dir=str(tmp_path / 'file' / 'run'))))


LOOP = dict(epochs=3, val=True, checkpoint=dict(type='mmltm.WholeCheckpointHook', max_keep_ckpts=1),
            hooks=[dict(type='mmltm.IBStatisticsHook')], val_evaluator=[dict(type=Accuracy)],
            param_scheduler=dict(type='ReduceOnPlateauLR', monitor='rising/value', rule='less', patience=0))


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    runner(folder, **LOOP).train()
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py')


def test_full_disk_loses_nothing(tmp_path, whole):
    run = runner(tmp_path, **LOOP)
    with ExitStack() as stack, pytest.raises(UserError, match='cannot write .*epoch_2.pth .*File too large'):
        run.hooks[0].before_train_epoch = lambda run: run.epoch and stack.enter_context(full_disk(10**6))
        run.train()
    assert names(tmp_path) == ['best_rising_value_epoch_1.pth', 'epoch_1.pth', 'last_checkpoint']
    runner(tmp_path, resume=True, **LOOP).train()
    assert names(tmp_path) == names(whole)
    assert_same(final_state(tmp_path, 'epoch_3.pth'), final_state(whole, 'epoch_3.pth'))


@pytest.mark.parametrize('epoch', [2, 3])
def test_validates_first_what_was_saved_before_its_validation(tmp_path, whole, epoch):
    run = runner(tmp_path, **LOOP)

    def stop(*_, **__):
        if run.epoch == epoch:
            raise KeyboardInterrupt

    run.hooks[0].before_val = stop
    with pytest.raises(KeyboardInterrupt):
        run.train()
    runner(tmp_path, resume=True, **LOOP).train()
    assert names(tmp_path) == names(whole)
    assert_same(final_state(tmp_path, 'epoch_3.pth'), final_state(whole, 'epoch_3.pth'))


def test_training_on_a_full_disk(tmp_path, root, disk):
    """Room for the checkpoints of two of three epochs; with more, what comes out is what would have come out."""
    folder, resize = disk
    write_config(tmp_path / 'config.py')
    assert status(train(root, tmp_path / 'config.py', tmp_path / 'whole')) == 0
    size = (tmp_path / 'whole' / 'epoch_1.pth').stat().st_size
    assert resize(5 * size // 2)
    assert status(train(root, tmp_path / 'config.py', folder / 'run')) == 1
    output = (folder / 'run' / 'output').read_text()
    assert re.match(r'error: cannot write .*/epoch_\d.pth \([\d.]+ MB\): No space left on device; what was written '
                    'before is whole: ', output.splitlines()[-1]) and 'Traceback' not in output
    left = list(map(str, (folder / 'run').glob('*epoch*')))
    assert len(left) > 1 and all(map(is_whole, left))
    assert resize(9 * size)
    assert status(train(root, tmp_path / 'config.py', folder / 'run')) == 0
    assert_same(final_state(folder / 'run', 'epoch_3.pth'), final_state(tmp_path / 'whole', 'epoch_3.pth'))
