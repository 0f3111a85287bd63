"""A structure too large for the machine is refused with numbers, not killed."""

import os
from types import SimpleNamespace

import pytest
import torch
from builders import random_model

from asesc import memory
from asesc.density import GaussianBasis
from asesc.electrostatics.direct import DirectCoulomb
from asesc.errors import SetupError
from asesc.memory import SavedMemory, available_memory, require_memory
from asesc.testing import example_system
from asesc.testing.differences import tiled

CPU = torch.device("cpu")


def test_the_memory_of_this_machine(monkeypatch, tmp_path):
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 1e8 < available_memory(CPU) <= physical
    (tmp_path / "meminfo").write_text("MemTotal:  8 kB\nMemAvailable:       3 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    assert available_memory(CPU) == 3072
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert available_memory(CPU) == physical
    monkeypatch.setattr(memory, "os", SimpleNamespace())
    assert available_memory(CPU) == float("inf")


def test_the_message_has_atoms_memory_and_a_way_out(monkeypatch):
    """A million atoms with dipoles: three matrices of (4 · 10⁶)² numbers of 8 bytes."""
    layout = SimpleNamespace(shape=(1, 1_000_000))
    monkeypatch.setattr(memory, "available_memory", lambda device: 16e9)
    with pytest.raises(
        SetupError,
        match=r"The pairs for 1000000 atoms needs about 384000.0 GB on cpu.* 16.0 GB .*Try",
    ):
        require_memory(layout, 4, CPU, matrices=3, purpose="The pairs", advice="Try less.")
    require_memory(
        SimpleNamespace(shape=(1, 2000)), 4, CPU, matrices=3, purpose="The pairs", advice=""
    )


def test_pairs_and_dense_solves_ask_first(monkeypatch):
    system = example_system((8, 1, 1), (False,) * 3)
    # Room for three matrices of 12 unknowns, not for six.
    monkeypatch.setattr(memory, "available_memory", lambda device: 4 * 8 * 12**2)
    for family in ("QEq", "SplitChargeEquilibration"):
        with pytest.raises(SetupError, match=r"dense solve .* 3 atoms .*fewer structures at once"):
            random_model(family)(system)
    pairs = DirectCoulomb(tiled(system, 2), GaussianBasis(1, torch.ones(6, dtype=torch.float64)))
    with pytest.raises(
        SetupError, match=r"all pairs for 3 atoms in each of 2 structures .*open-re"
    ):
        pairs.dense()
    # One energy makes no matrix.
    assert pairs.energy(torch.ones(6, 4, dtype=torch.float64)).isfinite().all()


def test_memory_that_autograd_keeps():
    """exp keeps its result, a product its factors; views of one block count once."""
    x = torch.zeros(1000, dtype=torch.float64, requires_grad=True)
    weights = torch.ones(1000, dtype=torch.float64)
    with SavedMemory([weights]) as kept:
        y = x.exp()
        _ = (y * weights) + (y[:10] * weights[:10]).sum()
    assert kept.bytes == 8000
