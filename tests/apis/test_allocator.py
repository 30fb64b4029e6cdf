import platform
import subprocess
import sys

PROGRAM = """
import resource, sys
import torch
from mmltm.apis.allocator import keep_freed_memory
kept = sys.argv[1] == 'keep' and keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(10_000_000)
before = faults()
for _ in range(60):
    torch.ones(10_000_000)
print(int(kept), faults() - before)
"""


def measure(mode):
    run = subprocess.run([sys.executable, '-c', PROGRAM, mode], capture_output=True, text=True, check=True)
    return map(int, run.stdout.split())


def test_large_arrays_are_not_mapped_anew():
    kept, faults = measure('keep')
    assert kept == (platform.libc_ver()[0] == 'glibc')
    if kept:
        assert faults < 0.4 * list(measure('default'))[1]
