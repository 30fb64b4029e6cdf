import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from mmltm.utils.allocator import keep_freed_memory
if sys.argv[1] == 'keep':
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(10_000_000)
before = faults()
for _ in range(60):
    torch.ones(10_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc')
def test_large_arrays_are_not_mapped_anew():
    faults = {
        mode: int(subprocess.run([sys.executable, '-c', PROGRAM, mode], capture_output=True, text=True, check=True).stdout)
        for mode in ('keep', 'default')
    }
    assert faults['keep'] < 0.4 * faults['default']
