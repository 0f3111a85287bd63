"""The backbone of `quartz` through torch.compile on a CPU: compiling, time per step, accuracy.

Energies and features are traced once with symbolic numbers of atoms and edges and compiled by
inductor, which needs a C++ compiler; forward and backward run in turn with those of the ordinary
backbone in one process. Every precision is measured in two new processes, the second of which
finds what the first left on disk. The package uses nothing of this; `benchmarks/README.md`
says why.

    OMP_NUM_THREADS=1 python benchmarks/compiled_backbone.py [SECONDS PER ROW]
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from electrostatics import interleaved
from torch import Tensor, nn

from asesc.allocator import keep_freed_memory
from asesc.cli.run import read_structure
from asesc.models import Model
from asesc.models.backbone import Backbone, mace_environment, mace_inputs
from asesc.neighbors import find_edges
from asesc.pretrained import load_model
from asesc.response import energy_and_forces
from asesc.system import System

REPEATS = (2, 3)  # of the quartz cell of 9 atoms

HEADER = """\
# The backbone compiled for a CPU

`quartz` (32 channels, two layers, correlation 3), α-quartz, one thread. Backbone: energies and
features and their derivative by edge vectors; step: energy and forces of the ordinary model. CPU
milliseconds, medians. Compiling: CPU seconds of the first call beyond a later one, of Python and
of the C++ compiler; "again" is a new process that finds the first one's files. The second size
needs no compilation of its own.

| precision | process | atoms | edges | compiling, Python + C++ | backbone | compiled | ratio \
| step | ΔE, eV | ΔF/F |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def core(mace: nn.Module) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Atomic energies and node features as a function of tensors only."""

    def run(vectors: Tensor, attrs: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        radial, cutoff = mace.radial_embedding(lengths, attrs, edges, mace.atomic_numbers)
        x, harmonics = mace.node_embedding(attrs), mace.spherical_harmonics(vectors)
        heads = torch.zeros(attrs.shape[0], dtype=torch.int64)
        energies, features = [], []
        for interaction, product, readout in zip(
            mace.interactions, mace.products, mace.readouts, strict=True
        ):
            x, skip = interaction(attrs, x, harmonics, radial, edges, cutoff=cutoff)
            x = product(node_feats=x, sc=skip, node_attrs=attrs)
            features.append(x)
            energies.append(readout(x, heads)[:, 0])
        return mace.scale_shift(torch.stack(energies).sum(0), heads), torch.cat(features, -1)

    return run


def without_torchscript(model: Model, dtype: torch.dtype) -> nn.Module:
    """The same module in a form that can be traced."""
    with mace_environment():
        import e3nn

        defaults = e3nn.get_optimization_defaults()
        e3nn.set_optimization_defaults(jit_script_fx=False)
        try:
            backbone = Backbone(architecture=model.backbone.architecture)
        finally:
            e3nn.set_optimization_defaults(**defaults)
    backbone.copy_mace(model.backbone.mace)
    return backbone.to(dtype).requires_grad_(False).mace


def compiled(mace: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The traced function; it is compiled when it is first called."""
    import e3nn.o3._spherical_harmonics as harmonics
    from torch.fx.experimental.proxy_tensor import make_fx

    # TorchScript would fix the number of edges; the function it was made from does not.
    original = harmonics._spherical_harmonics._torchdynamo_inline
    with patch.object(harmonics, "_spherical_harmonics", original):
        trace = make_fx(core(mace), tracing_mode="symbolic", _allow_non_fake_inputs=True)
        return torch.compile(trace(*inputs), dynamic=True)


def inputs_of(system: System, model: Model, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Edge vectors, elements and edges."""
    edges = find_edges(system, model.cutoff)
    inputs = mace_inputs(system, edges, model.backbone.mace.atomic_numbers, dtype)
    return edges.vectors(system).to(dtype), inputs["node_attrs"], inputs["edge_index"]


def with_gradient(function: Callable, vectors: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """Energies, and the derivative by edge vectors of what a model may make of the output."""
    vectors = vectors.detach().requires_grad_()
    energies, features = function(vectors, *others)
    weights = torch.linspace(-1, 1, features.shape[1], dtype=features.dtype)
    probe = energies.sum() + (features * weights).sum()
    return energies.detach(), torch.autograd.grad(probe, vectors)[0]


def cpu_seconds() -> tuple[float, float]:
    """Of this process and of those it waited for."""
    return tuple(getrusage(who).ru_utime for who in (RUSAGE_SELF, RUSAGE_CHILDREN))


def measure(dtype_name: str, process: str, seconds: float) -> None:
    """Print the rows of one precision."""
    torch.set_num_threads(1)
    keep_freed_memory()
    dtype, exact = getattr(torch, dtype_name), load_model("quartz")
    model = load_model("quartz", dtype=dtype_name).requires_grad_(False)
    ordinary, fast = core(model.backbone.mace), None
    for repeats in REPEATS:
        atoms = read_structure("quartz").repeat(repeats)
        atoms.rattle(0.05, seed=1)
        system = System.from_atoms(atoms)
        inputs = inputs_of(system, model, dtype)
        energies, gradient = with_gradient(ordinary, *inputs)
        before = cpu_seconds()
        if fast is None:
            fast = compiled(without_torchscript(exact, dtype), inputs)
        found, derivative = with_gradient(fast, *inputs)
        taken = [b - a for a, b in zip(before, cpu_seconds(), strict=True)]
        codes = [
            lambda inputs=inputs: with_gradient(ordinary, *inputs),
            lambda inputs=inputs, fast=fast: with_gradient(fast, *inputs),
            lambda system=system: energy_and_forces(model, system),
        ]
        plain, quick, step = (1e3 * timing.cpu for timing in interleaved(codes, seconds))
        cells = [dtype_name, process, len(atoms), len(inputs[0])]
        cells += [f"{taken[0] - quick / 1e3:.1f} + {taken[1]:.1f}"]
        cells += [f"{plain:.0f}", f"{quick:.0f}", f"{plain / quick:.1f}", f"{step:.0f}"]
        cells += [f"{float((found - energies).abs().max()):.0e}"]
        cells += [f"{float((derivative - gradient).norm() / gradient.norm()):.0e}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main(seconds: str = "2") -> None:
    """Print the table and write it to benchmarks/results."""
    path = Path(__file__).parent / "results" / "compiled_backbone.md"
    machine = f"{platform.machine()}, torch {torch.__version__}, Python {sys.version.split()[0]}"
    table = HEADER
    for dtype in ("float32", "float64"):
        with tempfile.TemporaryDirectory() as cache:
            environment = os.environ | {
                "TORCHINDUCTOR_CACHE_DIR": cache,
                "TORCHINDUCTOR_COMPILE_THREADS": "1",
            }
            for process in ("first", "again"):
                rows = subprocess.run(
                    [sys.executable, __file__, seconds, dtype, process],
                    env=environment,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stdout
                print(rows, end="", flush=True)
                table += rows
                path.write_text(f"{table}\n{machine}\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(sys.argv[2], sys.argv[3], float(sys.argv[1]))
    else:
        main(*sys.argv[1:2])
