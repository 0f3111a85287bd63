"""How the C library treats freed memory."""

import ctypes
import platform

# Parameters of mallopt(3), and values that keep blocks below 32 MB, glibc's largest, on the heap.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_ON_HEAP = 32 * 1024 * 1024
_NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library reuse freed memory instead of returning it to the system.

    The forces of a model make and drop hundreds of arrays of some megabytes. By default glibc gives
    them back, and the system clears every page anew when the next ones are made, which can take
    as long as the arithmetic. The process keeps its largest footprint instead. This holds for the
    whole process, so a program decides it and not a library: the command ``asesc`` calls it; call
    it at the start of a long run in Python on a CPU.

    Returns
    -------
    bool
        False where the C library is not glibc; nothing is changed there.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    accepted = mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
    return bool(accepted and mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM))
