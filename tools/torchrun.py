#!/usr/bin/env python
"""torchrun, but where a process of the job has failed it ends with one line that names it."""

import os
import signal
import socket
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == '__main__':
    # Ranks that are started again would find in a store of torchrun's the addresses of those that are gone.
    os.environ.setdefault('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1')
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        how = (f'was killed by {signal.Signals(-failure.exitcode).name}' if failure.exitcode < 0 else
               f'ended with status {failure.exitcode}, its message is above')
        sys.exit(f'error: rank {rank} (process {failure.pid} on {socket.gethostname()}) {how}; to go on: the same '
                 'command with --resume')
    except SignalException as error:
        print(f'{error.sigval.name}: all ranks have been ended; to go on: the same command with --resume',
              file=sys.stderr)
        sys.exit(128 + error.sigval)
