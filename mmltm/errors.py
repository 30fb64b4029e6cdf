"""Errors that a user can put right, said in one line.

Tools run their ``main`` through :func:`run`. What is no :class:`UserError` keeps its traceback, except the few errors
that stand for broken input and reach us from within a data loader's worker, or for a machine that gave out.
"""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable

TRACEBACK_SWITCH = 'MMLTM_TRACEBACK'


class UserError(ValueError):
    """A mistake in the input. The message names the offending path or value and the remedy."""


def summary(error: BaseException) -> str:
    """The exception's message in one line, after its type unless it is a :class:`UserError`."""
    text = str(error)
    if 'DataLoader worker process' in text:  # the worker's whole traceback follows; its last line says it
        text = text.strip().splitlines()[-1].partition(': ')[2]
    text = ' '.join(text.split())
    return text if isinstance(error, UserError) else f'{type(error).__name__}: {text}'


def _unreadable_images(error: BaseException) -> str | None:
    """The message for images that cannot be decoded, or None if ``error`` is about something else."""
    named = re.findall(r'failed to load image: (.+)', str(error))  # by mmcv's LoadImageFromFile
    if named:  # the last one: a worker's traceback quotes the source of the message, too
        return f'cannot decode image {named[-1].strip()}: replace the file or take it off the annotations'
    if 'Cannot find valid image after' in str(error):  # by mmengine's BaseDataset
        return ('no image of the training set can be used (see the warnings above): check the files and '
                'the training pipeline')
    return None


def _machine_fault(error: BaseException) -> str | None:
    """The message for a full or read-only disk, a killed data loader worker or a lost rank, or None."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return (f'cannot write {error.filename or "a file"}: {error.strerror}; checkpoints written before are whole: '
                'make room, or choose another folder, and go on with --resume')
    if worker := re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)', text):
        reason = worker[2].partition('signal: ')[2].partition('.')[0] or 'unknown'
        remedy = ('give it more shared memory (docker: --shm-size)' if 'shared memory' in text else
                  'the system does so when memory runs out: lower num_workers or batch_size')
        return f'data loader worker {worker[1]} was killed (signal: {reason}); {remedy}, and go on with --resume'
    if re.search('Connection (closed|reset) by peer|remote process exited|Broken pipe', text) and 'RANK' in os.environ:
        return (f'rank {os.environ["RANK"]} lost the connection to another rank, whose own message says why; go on '
                'with --resume')
    return None


def run(main: Callable[[], None], *refusals: type[Exception]) -> None:
    """Calls ``main``; user errors, and ``refusals``, end it as ``error: ...`` and status 1, Ctrl-C as status 130.

    The environment variable ``MMLTM_TRACEBACK=1`` shows the traceback instead.
    """
    if callable(signal.getsignal(signal.SIGINT)):  # that of the start-up; one that ignores Ctrl-C stays
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        if os.environ.get(TRACEBACK_SWITCH) == '1':
            raise
        print('interrupted; what was written before is whole, and a training goes on with --resume', file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        if isinstance(error, refusals):
            error = UserError(*error.args)
        line = summary(error) if isinstance(error, UserError) else _machine_fault(error) or _unreadable_images(error)
        if line is None or os.environ.get(TRACEBACK_SWITCH) == '1':
            raise
        sys.exit(f'error: {" ".join(line.split())}')
