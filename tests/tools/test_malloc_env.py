"""What the scripts set keeps glibc from mapping large arrays anew."""

import os
import platform
import re
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(10_000_000)
before = faults()
for _ in range(20):
    torch.ones(10_000_000)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='another C library')
def test_large_arrays_are_not_mapped_anew(root):
    clean = {key: value for key, value in os.environ.items() if not key.startswith('MALLOC_')}
    kept = dict(re.findall(r'(MALLOC_\w+)=\$\{\w+:-(\S+?)\}', (root / 'tools/setup_env.sh').read_text()))
    assert kept.keys() == {'MALLOC_MMAP_MAX_', 'MALLOC_TRIM_THRESHOLD_'}
    default, few = (int(subprocess.run([sys.executable, '-c', PROGRAM], env={**clean, **more}, capture_output=True,
                                       text=True, check=True).stdout) for more in ({}, kept))
    assert few < 0.4 * default
