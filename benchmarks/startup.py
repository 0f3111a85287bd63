"""Import, first call, what ASE adds to a step, and the share of the neighbour list.

OMP_NUM_THREADS=1 python benchmarks/startup.py [REPEATS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from ase import units
from ase.md.verlet import VelocityVerlet

from asesc import SCCalculator
from asesc.allocator import keep_freed_memory
from asesc.cli.run import read_structure
from asesc.neighbors import find_edges
from asesc.system import System

FRESH = """
from time import process_time, perf_counter
marks = [(process_time(), perf_counter())]
import asesc
marks.append((process_time(), perf_counter()))
from asesc.cli.run import read_structure
calc = asesc.SCCalculator("quartz")
marks.append((process_time(), perf_counter()))
atoms = read_structure("quartz")
for _ in range(3):
    calc.get_property("forces", atoms)
    marks.append((process_time(), perf_counter()))
    atoms.rattle(0.01)
for (c0, w0), (c1, w1) in zip(marks, marks[1:]):
    print(c1 - c0, w1 - w0)
"""
STAGES = ("import asesc", "open a model (torch, mace)", "first forces", "second", "third")
SKIN = 0.5  # Å


def fresh(repeats: int) -> str:
    """Stages of a new process, medians."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", FRESH], capture_output=True, text=True, check=True
        )
        runs.append([tuple(map(float, line.split())) for line in done.stdout.splitlines()])
    text = "| new process | CPU, s | wall, s |\n|---|---|---|\n"
    for n, stage in enumerate(STAGES):
        cpu, wall = (median(run[n][k] for run in runs) for k in (0, 1))
        text += f"| {stage} | {cpu:.2f} | {wall:.2f} |\n"
    return text


def best(action, repeats: int = 3) -> float:
    """CPU milliseconds."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        action()
        times.append(time.process_time() - begin)
    return 1e3 * min(times)


def step(size: int) -> str:
    """A step of MD, the evaluation in it, and the list of neighbours in that."""
    atoms = read_structure("quartz").repeat((size, size, size))
    atoms.rattle(0.02, seed=1)
    calc = SCCalculator("quartz", dtype="float32")
    atoms.calc = calc
    dyn = VelocityVerlet(atoms, 0.5 * units.fs)
    dyn.run(1)
    whole = best(lambda: dyn.run(1))
    alone = best(lambda: calc.evaluate(atoms))
    cached = best(atoms.get_forces, 20)
    system, cutoff = System.from_atoms(atoms), calc.model.cutoff
    listing = best(lambda: find_edges(system, cutoff))
    wide = find_edges(system, cutoff + SKIN)

    def filtered() -> None:
        close = wide.vectors(system).pow(2).sum(-1) < cutoff**2
        _ = wide.source[close], wide.target[close], wide.shifts[close]

    cells = [len(atoms), f"{alone:.0f}", f"{whole - alone:.1f}", f"{cached:.2f}"]
    cells += [f"{listing:.2f}", f"{best(filtered):.2f}", f"{100 * listing / alone:.1f} %"]
    return "| " + " | ".join(map(str, cells)) + " |\n"


def main(repeats: int = 3) -> None:
    """Print the tables and write them to benchmarks/results."""
    torch.set_num_threads(1)
    keep_freed_memory()
    text = "# Import, first call, overhead\n\nModel `quartz`, one thread.\n\n" + fresh(repeats)
    text += (
        "\nOne step of velocity Verlet, float32 backbone, CPU milliseconds, best of three: the "
        "evaluation, what ASE and\nthe calculator's shell add, a cached answer, the list of "
        f"neighbours (vesin), filtering a list with a skin\nof {SKIN} Å to the same edges, and the "
        "share of the list.\n\n"
        "| atoms | evaluation | shell | cached | list | filter | list, share |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for size in (1, 2, 3):
        text += step(size)
    print(text)
    (Path(__file__).parent / "results" / "startup.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
