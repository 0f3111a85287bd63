"""Molecular dynamics that is killed with SIGKILL at random moments and goes on from its file.

    OMP_NUM_THREADS=1 python tests/killed_run.py KILLS [SEED]

One process computes every life: it forks, the copy runs and writes a restart file at every step,
and is killed after a random number of steps plus a random part of the next, which includes the
middle of writing the file. Every file found is compared with the run that was never stopped.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase.md.verlet import VelocityVerlet
from watched_water import dynamics, gentle_model

from asesc.md import DynamicsCalculator, load_restart, save_restart

#: Steps of one life: at most these.
LONGEST = 6


def start() -> VelocityVerlet:
    """A run whose file holds all that it depends on."""
    calculator = DynamicsCalculator(gentle_model("FixedPoint"))
    dyn = dynamics(calculator)
    dyn.atoms.calc = calculator  # without the springs, which the file does not know
    dyn.dt *= 0.1
    return dyn


def one_life(path: Path, report: int) -> None:
    """Go on from the file until somebody kills this process; a byte for every step."""
    dyn = start()
    if path.exists():
        dyn.nsteps = load_restart(path, dyn.atoms)
    while True:
        dyn.run(1)
        save_restart(path, dyn.atoms, step=dyn.nsteps)
        os.write(report, b".")


def killed_after(path: Path, steps: int, delay: float) -> None:
    """A life of at least so many steps, and so many seconds more."""
    listen, report = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            one_life(path, report)
        finally:
            os._exit(1)
    os.close(report)
    for _ in range(steps):
        if not os.read(listen, 1):
            raise RuntimeError("the run ended before it was killed")
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(listen)
    assert os.WTERMSIG(status) == signal.SIGKILL


def compare(kills: int, seed: int = 0) -> int:
    """Steps of the run; AssertionError where a file differs from the undisturbed run by one bit."""
    rng, whole = np.random.default_rng(seed), start()
    begin = time.perf_counter()
    whole.run(0)
    whole.run(5)
    pace = (time.perf_counter() - begin) / 5
    reference = {}
    whole = start()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"
        for kill in range(kills):
            killed_after(path, int(rng.integers(1, LONGEST)), rng.uniform(0, 1.5 * pace))
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in ("step", "positions", "momenta")}
            while whole.nsteps < found["step"]:
                whole.run(1)
            reference = {"positions": whole.atoms.positions, "momenta": whole.atoms.get_momenta()}
            for name, value in reference.items():
                np.testing.assert_array_equal(found[name], value, err_msg=f"kill {kill}, {name}")
    return whole.nsteps


if __name__ == "__main__":
    n_kills, *rest = (int(argument) for argument in sys.argv[1:])
    print(f"{n_kills} kills, {compare(n_kills, *rest)} steps, every restart equal to the last bit")
