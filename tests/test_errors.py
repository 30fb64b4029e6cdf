"""User errors become one line and a status; everything else keeps its traceback."""

import errno

import pytest

from mmltm.errors import UserError, run, summary


def fail_with(error):
    def main():
        raise error
    return main


@pytest.mark.parametrize('error, line', [
    (UserError('the file\nis missing'), 'error: the file is missing'),
    (AssertionError('failed to load image: a b.jpg'), 'error: cannot decode image a b.jpg: replace'),
    (AssertionError('Caught AssertionError in DataLoader worker process 0.\nOriginal Traceback:\n'
                    "    assert img is not None, f'failed to load image: {filename}'\n"
                    'AssertionError: failed to load image: x.jpg\n'),
     'error: cannot decode image x.jpg: replace'),
    (Exception('Cannot find valid image after 1000! Please check'),
     'error: no image of the training set can be used'),
    (OSError(errno.ENOSPC, 'No space left on device', 'x.log'), 'error: cannot write x.log: No space left on device;'),
    (RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. '),
     'error: data loader worker 7 was killed (signal: Killed); the system does so when memory runs out: lower'),
    (RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error. They may be out of shared memory'),
     'error: data loader worker 7 was killed (signal: Bus error); give it more shared memory'),
    (RuntimeError('DataLoader worker (pid(s) 7, 8) exited unexpectedly'), 'error: data loader worker 7, 8 was killed'),
])
def test_known_errors_are_one_line(error, line):
    with pytest.raises(SystemExit) as stop:
        run(fail_with(error))
    assert stop.value.code.startswith(line)
    assert '\n' not in stop.value.code


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError):
        run(fail_with(ZeroDivisionError()))


def test_ctrl_c_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        run(fail_with(KeyboardInterrupt()))
    assert stop.value.code == 130
    assert capsys.readouterr().err == 'interrupted; what was written before is whole, and a training goes on with ' \
        '--resume\n'


def test_switch_shows_the_traceback(monkeypatch):
    monkeypatch.setenv('MMLTM_TRACEBACK', '1')
    with pytest.raises(UserError):
        run(fail_with(UserError('wrong')))


def test_summary_of_a_workers_error():
    text = 'Caught OSError in DataLoader worker process 1.\nOriginal Traceback:\n  ...\nOSError: disk: full\n'
    assert summary(OSError(text)) == 'OSError: disk: full'
    assert summary(ValueError('two\n lines')) == 'ValueError: two lines'
    assert summary(UserError('wrong\n path')) == 'wrong path'  # a ValueError, but one that speaks for itself
