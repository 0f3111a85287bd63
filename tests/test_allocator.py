"""Freed memory stays with the process where it is asked to."""

import platform
import subprocess
import sys

import pytest

from asesc import allocator

PAGE_FAULTS = """
import resource
import torch
from asesc.allocator import keep_freed_memory

def use():  # 48 MB in eight arrays, freed together
    arrays = [torch.ones(1_500_000) for _ in range(8)]

if {keep}:
    assert keep_freed_memory()
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_kept():
    """Pages are touched for the first time only where memory had been given back."""
    code = PAGE_FAULTS.format(keep=True)
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(answer.stdout) < 500


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert not allocator.keep_freed_memory()
