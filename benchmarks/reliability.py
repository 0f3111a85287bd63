"""Long runs: killed at random moments, growing memory.

    OMP_NUM_THREADS=1 python benchmarks/reliability.py kill 100     # SIGKILL, bit-exact restarts
    OMP_NUM_THREADS=1 python benchmarks/reliability.py memory 100000  # MD steps of one molecule

What happens to NaN in a map is tested in tests/md/test_reliability.py.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import killed_run
import torch
from watched_water import dynamics, gentle_model

from asesc.allocator import keep_freed_memory
from asesc.md import DynamicsCalculator, ElectronLogger

#: Steps before the first measurement: caches fill, the allocator settles.
WARM = 500


def resident() -> float:
    """Memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory(steps: int) -> str:
    """RSS over a run with a logger, a line per tenth."""
    keep_freed_memory()
    dyn = dynamics(DynamicsCalculator(gentle_model("FixedPoint")))
    with tempfile.TemporaryDirectory() as folder:
        dyn.attach(ElectronLogger(dyn, Path(folder) / "electrons.csv"), interval=10)
        dyn.run(WARM)
        first, begin = resident(), time.process_time()
        rows = []
        for tenth in range(1, 11):
            dyn.run(steps // 10)
            rows.append(f"| {tenth * (steps // 10)} | {resident() - first:+.1f} |")
            print(rows[-1], flush=True)
    cpu = 1e3 * (time.process_time() - begin) / steps
    head = f"RSS of {first:.0f} MB after {WARM} steps; {cpu:.0f} ms CPU per step.\n\n"
    return head + "| steps | growth, MB |\n|---|---|\n" + "\n".join(rows) + "\n"


def kill(times: int) -> str:
    """Lives of a run that is killed."""
    begin = time.process_time()
    steps = killed_run.compare(times)
    return (
        f"{times} times SIGKILL at random moments of {steps} MD steps: every restart file equals "
        f"the undisturbed run to the last bit ({time.process_time() - begin:.0f} s CPU).\n"
    )


def main(what: str, count: int) -> None:
    """Print and write benchmarks/results/reliability_WHAT.md."""
    torch.set_num_threads(1)
    text = {"kill": kill, "memory": memory}[what](count)
    title = {"kill": "Killed runs", "memory": "Memory of a long run"}[what]
    print(text)
    path = Path(__file__).parent / "results" / f"reliability_{what}.md"
    path.write_text(
        f"# {title}\n\nOne molecule of water, `FixedPoint`, one map per step.\n\n{text}"
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
