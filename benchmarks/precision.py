"""Error and gain of a single-precision backbone on the validation frames of the shipped models.

With ``dtype="float32"`` the backbone and the heads are single precision; electrostatics, solves and
sums are always double.

    ASESC_DATA=… OMP_NUM_THREADS=1 python benchmarks/precision.py [FRAMES]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ase.io import read

from asesc import SCCalculator
from asesc.allocator import keep_freed_memory

HEADER = """\
# Single-precision backbone ("mixed") against double

Differences over the validation frames, in the charges and fields that they are labelled for;
forces in meV/Å over all components, energies in meV/atom, the last column the ratio of CPU times,
one thread.

| model | frames | atoms | ΔF, rms | ΔF, largest | ΔF/F | ΔE, largest | float64 ÷ float32 |
|---|---|---|---|---|---|---|---|
"""


def evaluated(calc: SCCalculator, frames: list) -> tuple[np.ndarray, np.ndarray, float]:
    """Energies per atom, forces and CPU seconds."""
    calc.evaluate(frames[0])
    begin, energies, forces = time.process_time(), [], []
    for frame in frames:
        results = calc.evaluate(frame).results
        energies.append(results["energy"] / len(frame))
        forces.append(results["forces"])
    return np.array(energies), np.concatenate(forces), time.process_time() - begin


def row(name: str, count: int) -> str:
    """One model."""
    frames = read(Path(os.environ["ASESC_DATA"]) / name / "valid.xyz.xz", f":{count}")
    for frame in frames:
        frame.calc = None
    energies, forces, times = zip(
        *(evaluated(SCCalculator(name, dtype=f"float{bits}"), frames) for bits in (64, 32)),
        strict=True,
    )
    difference = 1e3 * (forces[1] - forces[0])
    rms, scale = np.sqrt(np.mean(difference**2)), 1e3 * np.sqrt(np.mean(forces[0] ** 2))
    cells = [name, len(frames), len(frames[0]), f"{rms:.1e}", f"{abs(difference).max():.1e}"]
    cells += [f"{rms / scale:.1e}", f"{1e3 * abs(energies[1] - energies[0]).max():.1e}"]
    return "| " + " | ".join(map(str, [*cells, f"{times[0] / times[1]:.1f}"])) + " |"


def main(count: int = 20) -> None:
    """Print the table and write it to benchmarks/results."""
    torch.set_num_threads(1)
    keep_freed_memory()
    table = HEADER
    for name in ("nma", "quartz"):
        line = row(name, count)
        print(line, flush=True)
        table += line + "\n"
    (Path(__file__).parent / "results" / "precision.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
