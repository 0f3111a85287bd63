"""64 small structures in batches against one after the other, and the memory that a batch takes.

OMP_NUM_THREADS=1 python benchmarks/batches.py
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ase import Atoms

from asesc import SCCalculator, evaluate_many
from asesc.allocator import keep_freed_memory
from asesc.cli.run import read_structure
from asesc.memory import SavedMemory

FRAMES = 64
HEADER = f"""\
# Batches

Energy, forces, stress, charges and dipole of {FRAMES} rattled structures by `evaluate_many`,
float64, one thread, CPU milliseconds per structure, best of two; the largest difference of a force
from the one by one run; what autograd keeps per atom, and what the process grows by per atom of its
largest batch of 300 atoms (the second model reuses the memory of the first).

| model | atoms | one by one | auto | ratio | ΔF, eV/Å | kept, MB/atom | peak, MB/atom |
|---|---|---|---|---|---|---|---|
"""


def frames_of(name: str) -> list[Atoms]:
    """The structure that ships with a model, rattled."""
    frames = [read_structure(name) for _ in range(FRAMES)]
    for seed, frame in enumerate(frames):
        frame.calc = None
        frame.rattle(0.02, seed=seed)
    return frames


def timed(frames: list[Atoms], calc: SCCalculator, batch: int | str) -> tuple[float, np.ndarray]:
    """CPU milliseconds per structure, and all forces."""
    times = []
    for _ in range(2):
        begin = time.process_time()
        outcome = evaluate_many(frames, calc, batch=batch, progress=False)
        times.append(time.process_time() - begin)
    forces = np.concatenate([item.results["forces"] for item in outcome])
    return 1e3 * min(times) / len(frames), forces


def peak() -> float:
    """Largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def row(name: str) -> str:
    """One model."""
    calc, frames = SCCalculator(name), frames_of(name)
    atoms = len(frames[0])
    single, expected = timed(frames, calc, 1)
    before = peak()
    together, found = timed(frames, calc, "auto")
    grown = (peak() - before) / 300
    with SavedMemory(calc.weights()) as kept:
        calc.evaluate(frames[0])
    cells = [name, atoms, f"{single:.0f}", f"{together:.0f}", f"{single / together:.1f}"]
    cells += [f"{abs(found - expected).max():.0e}", f"{kept.bytes / atoms / 1e6:.2f}"]
    return "| " + " | ".join(map(str, [*cells, f"{grown:.2f}"])) + " |"


def main() -> None:
    """Print the table and write it to benchmarks/results."""
    torch.set_num_threads(1)
    keep_freed_memory()
    table = HEADER
    for name in ("nma", "quartz"):
        line = row(name)
        print(line, flush=True)
        table += line + "\n"
    (Path(__file__).parent / "results" / "batches.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
