"""Memory of a process that computes on a CPU.

glibc maps every large array anew and returns it when it is freed, so a network's activations are zeroed page by page by
the kernel in every forward pass. Where page faults are dear, as in virtual machines, that takes longer than the arithmetic.
"""

import ctypes

# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next allocation, however large, until the process ends.

    Returns:
        bool: Whether it is so now; False where the C library is another one.
    """
    try:
        mallopt = ctypes.CDLL('libc.so.6').mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
