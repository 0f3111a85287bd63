"""`quartz` with kernels="compiled" on a CPU: compiling, time per step, accuracy.

Steps (energy and forces) of both kernels run in turn in one process. Every precision is measured in
two new processes, the second of which finds what the first left on disk.

    OMP_NUM_THREADS=1 python benchmarks/compiled_backbone.py [SECONDS PER ROW]
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from electrostatics import interleaved

from asesc.allocator import keep_freed_memory
from asesc.cli.run import read_structure
from asesc.pretrained import load_model
from asesc.response import energy_and_forces
from asesc.system import System

REPEATS = (2, 3)  # of the quartz cell of 9 atoms
RESULTS = Path(__file__).parent / "results" / "compiled_backbone.md"

HEADER = """\
# The backbone compiled for a CPU

`quartz` (32 channels, two layers, correlation 3), α-quartz, one thread. Step: energy and forces of
the whole model, CPU milliseconds, medians. First answer: CPU seconds of the first step, of Python
and of the C++ compiler; "again" is a new process that finds the first one's files. The second size
needs no compilation of its own.

| precision | process | atoms | first answer, Python + C++ | step, torch | step, compiled | ratio \
| ΔE, eV | ΔF/F |
|---|---|---|---|---|---|---|---|---|
"""


def cpu_seconds() -> tuple[float, float]:
    """Of this process and of those it waited for."""
    return tuple(getrusage(who).ru_utime for who in (RUSAGE_SELF, RUSAGE_CHILDREN))


def measure(dtype: str, process: str, seconds: float) -> None:
    """Print the rows of one precision."""
    torch.set_num_threads(1)
    keep_freed_memory()
    ordinary, fast = (
        load_model("quartz", dtype=dtype).requires_grad_(False).use_kernels(kernels)
        for kernels in ("torch", "compiled")
    )
    for repeats in REPEATS:
        atoms = read_structure("quartz").repeat(repeats)
        atoms.rattle(0.05, seed=1)
        system = System.from_atoms(atoms)
        expected, before = energy_and_forces(ordinary, system), cpu_seconds()
        found = energy_and_forces(fast, system)
        taken = [b - a for a, b in zip(before, cpu_seconds(), strict=True)]
        codes = [lambda m=m, s=system: energy_and_forces(m, s) for m in (ordinary, fast)]
        plain, quick = (1e3 * timing.cpu for timing in interleaved(codes, seconds))
        cells = [dtype, process, len(atoms), f"{taken[0]:.1f} + {taken[1]:.1f}"]
        cells += [f"{plain:.0f}", f"{quick:.0f}", f"{plain / quick:.1f}"]
        difference = (found.prediction.energy - expected.prediction.energy).detach()
        error = found.forces - expected.forces
        cells += [f"{float(difference.abs().max()):.0e}"]
        cells += [f"{float(error.norm() / expected.forces.norm()):.0e}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def main(seconds: str = "2") -> None:
    """Print the table and write it to benchmarks/results."""
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
                RESULTS.write_text(f"{table}\n{machine}\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(sys.argv[2], sys.argv[3], float(sys.argv[1]))
    else:
        main(*sys.argv[1:2])
