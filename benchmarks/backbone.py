"""The backbone against mace-torch's own modules with the same weights: forces and training step.

`asesc.models.backbone` puts a convolution and a symmetric contraction of its own into
ScaleShiftMACE. Both codes run in turn in one process, so that a busy machine slows both, and CPU
time is compared. Both keep freed memory. A training step is the gradient of the mean square force
by all weights.

    OMP_NUM_THREADS=1 python benchmarks/backbone.py [SECONDS PER ROW]
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from electrostatics import interleaved
from torch import Tensor, nn

from asesc.allocator import keep_freed_memory
from asesc.cli.run import read_structure
from asesc.models.backbone import (
    Backbone,
    constructor_keywords,
    mace_environment,
    mace_inputs,
    new_architecture,
)
from asesc.neighbors import find_edges
from asesc.system import System

KEYWORDS = {"elements": (8, 14), "cutoff": 4.5, "correlation": 3, "edge_lmax": 2}
#: channels, hidden l, repeats of the quartz cell of 9 atoms
CASES = [(32, 1, 2), (64, 1, 2), (128, 0, 2), (32, 1, 4)]

HEADER = """\
# The backbone and mace-torch's own modules

ScaleShiftMACE, two layers, correlation 3, l ≤ 2 on edges, cutoff 4.5 Å, α-quartz, one thread; CPU
milliseconds, medians. Forces agree to the relative difference in the last column.

| precision | channels | hidden l | atoms | forces, mace-torch | forces, asesc | ratio \
| step, mace-torch | step, asesc | ratio | ΔF/F |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def with_plain_modules(backbone: Backbone, keywords: dict) -> nn.Module:
    """mace's own module with the weights of a backbone."""
    with mace_environment():
        from mace import modules

        plain = modules.ScaleShiftMACE(**constructor_keywords(new_architecture(**keywords)))
    plain.to(backbone.dtype)
    weights = dict(backbone.mace.named_parameters())
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(weights[name])
    return plain


def forces(mace: nn.Module, system: System, edges, *, graph: bool = False) -> Tensor:
    """−∂E/∂R, (N, 3)."""
    inputs = mace_inputs(system, edges, mace.atomic_numbers, next(mace.parameters()).dtype)
    inputs["positions"].requires_grad_()
    energy = mace(inputs, compute_force=False)["energy"].sum()
    return -torch.autograd.grad(energy, inputs["positions"], create_graph=graph)[0]


def step(mace: nn.Module, system: System, edges) -> Callable[[], object]:
    """A training step on forces."""
    weights = [p for p in mace.parameters() if p.requires_grad]

    def run() -> object:
        loss = forces(mace, system, edges, graph=True).square().mean()
        return torch.autograd.grad(loss, weights, allow_unused=True)

    return run


def compare(case: tuple[int, int, int], dtype: torch.dtype, seconds: float) -> str:
    """One row of the table."""
    channels, hidden, repeats = case
    keywords = KEYWORDS | {"channels": channels, "hidden_lmax": hidden}
    torch.manual_seed(1)
    backbone = Backbone(**keywords).to(dtype)
    plain = with_plain_modules(backbone, keywords)
    atoms = read_structure("quartz").repeat(repeats)
    atoms.rattle(0.1, seed=1)
    system = System.from_atoms(atoms)
    edges = find_edges(system, backbone.cutoff)
    reference = forces(plain, system, edges)
    difference = (forces(backbone.mace, system, edges) - reference).norm() / reference.norm()
    codes = [
        lambda: forces(plain, system, edges),
        lambda: forces(backbone.mace, system, edges),
        step(plain, system, edges),
        step(backbone.mace, system, edges),
    ]
    times = [1e3 * timing.cpu for timing in interleaved(codes, seconds)]
    cells = [str(dtype)[6:], channels, hidden, len(atoms)]
    cells += [f"{times[0]:.0f}", f"{times[1]:.0f}", f"{times[0] / times[1]:.1f}"]
    cells += [f"{times[2]:.0f}", f"{times[3]:.0f}", f"{times[2] / times[3]:.1f}"]
    return "| " + " | ".join(map(str, [*cells, f"{float(difference):.0e}"])) + " |"


def main(seconds: float = 2.0) -> None:
    """Print the table and write it to benchmarks/results."""
    torch.set_num_threads(1)
    keep_freed_memory()
    table = HEADER
    for dtype in (torch.float32, torch.float64):
        for case in CASES:
            row = compare(case, dtype, seconds)
            print(row, flush=True)
            table += row + "\n"
    table += f"\n{platform.machine()}, torch {torch.__version__}, Python {sys.version.split()[0]}\n"
    (Path(__file__).parent / "results" / "backbone.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main(*(float(argument) for argument in sys.argv[1:2]))
