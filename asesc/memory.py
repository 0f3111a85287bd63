"""What fits into memory, asked before it is made, and what a pass keeps there."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from asesc.errors import SetupError
from asesc.system import BlockLayout

_BYTES = 8  # of a float64
_MEMINFO = Path("/proc/meminfo")


def require_memory(
    layout: BlockLayout,
    n_components: int,
    device: torch.device,
    *,
    matrices: int,
    purpose: str,
    advice: str,
) -> None:
    """Refuse dense matrices (B, n·M, n·M) that would not fit, instead of swapping or being killed.

    Parameters
    ----------
    layout : BlockLayout
    n_components : int
        M.
    matrices : int
        How many of them exist at the same time.
    purpose, advice : str
        What they are for, and what to do without them, for the message.

    Raises
    ------
    SetupError
        States atoms, the memory needed and what is available.
    """
    n_structures, n = layout.shape
    needed = matrices * n_structures * (n * n_components) ** 2 * _BYTES
    available = available_memory(device)
    if needed > available:
        several = f" in each of {n_structures} structures" if n_structures > 1 else ""
        raise SetupError(
            f"{purpose} for {n} atoms{several} needs about {needed / 1e9:.1f} GB on {device}, "
            f"where {available / 1e9:.1f} GB are available; the process would be killed. {advice}"
        )


def available_memory(device: torch.device) -> float:
    """Bytes that a new tensor may take on a device; infinite where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if _MEMINFO.is_file():
        # Counts what the kernel would give up for us, which sysconf's free pages do not.
        entries = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
        if "MemAvailable" in entries:
            return 1024 * float(entries["MemAvailable"].split()[0])
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf


class SavedMemory(torch.autograd.graph.saved_tensors_hooks):
    """Counts what autograd keeps for derivatives inside the ``with`` block, on any device.

    Parameters
    ----------
    constants : iterable of Tensor
        Not counted, such as the weights of a model.

    Attributes
    ----------
    bytes : int
        Every block of memory once, also where several tensors share it.
    """

    def __init__(self, constants: Iterable[Tensor] = ()) -> None:
        self.bytes = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in constants}
        super().__init__(self._count, lambda tensor: tensor)

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def _count(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor
