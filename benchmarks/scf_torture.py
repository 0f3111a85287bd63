"""How many hard inputs converge, and in how many maps, for every self-consistent family.

    OMP_NUM_THREADS=1 python benchmarks/scf_torture.py --inputs 10000 --processes 2 \\
        --store torture.jsonl --output benchmarks/results/scf_torture.md

Small random models (those of the tests) on random structures that are rattled, compressed to 0.7,
stretched, broken or slabs, with charges −2 … 2 and fields up to 1 V/Å; the inputs go round the
models in turn. A map is one evaluation of energy or fixed-point map, products with Jacobians
included. An answer counts as flawed if it is not finite, not converged, off in charge, or if a
restart from it moves the energy. With ``--store`` an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from builders import NUMBERS, random_model

from asesc.testing.torture import Outcome, TortureReport, endure, hard_input

MODELS = (
    ("QEq", {}),
    ("SplitChargeEquilibration", {}),
    ("FixedPoint", {}),
    ("FixedPoint", {"update": "gated"}),
    ("FixedPoint", {"update": "mlp"}),
    ("EnergyFunctional", {}),
    ("EnergyFunctional", {"functional": "localised"}),
)
#: Models whose density is found by iteration and not by one linear solve.
_ITERATED = ("FixedPoint", "EnergyFunctional")
_CHUNK = 70  # inputs per task, ten for every model


def name_of(model: int) -> str:
    """Family and what distinguishes the model within it."""
    family, own = MODELS[model]
    return " ".join([family, *own.values()])


def run(task: tuple[int, int, int]) -> tuple[int, float, list[dict]]:
    """Inputs ``start`` … ``stop`` − 1: start, CPU seconds, outcomes."""
    torch.set_num_threads(1)
    seed, start, stop = task
    clock, outcomes = time.process_time(), []
    for i in range(start, stop):
        family, own = MODELS[i % len(MODELS)]
        outcome = endure(random_model(family, seed=seed, **own), *hard_input(NUMBERS, i, seed=seed))
        outcomes.append(asdict(outcome))
    return start, time.process_time() - clock, outcomes


def finished(tasks: list[tuple[int, int, int]], store: Path | None, processes: int) -> Iterator:
    """What ``run`` returns for every task, from the store where it is known."""
    known = {}
    if store is not None and store.exists():
        for line in store.read_text().splitlines():
            seed, stop, *result = json.loads(line)
            known[seed, result[0], stop] = result
    yield from (known[task] for task in tasks if task in known)
    todo = {task[1]: task for task in tasks if task not in known}
    with get_context("spawn").Pool(processes) as pool:
        for result in pool.imap_unordered(run, todo.values()):
            if store is not None:
                seed, _, stop = todo[result[0]]
                with store.open("a") as file:
                    file.write(json.dumps([seed, stop, *result]) + "\n")
            yield result


def table(by_model: dict[str, list[Outcome]]) -> str:
    """One row per model, as Markdown."""
    head = ["model", "inputs", "converged", "raised", "flawed", "median", "99 %", "most"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    iterated = [o for name, those in by_model.items() if name.startswith(_ITERATED) for o in those]
    groups = by_model | {
        "all that iterate": iterated,
        "all": [outcome for those in by_model.values() for outcome in those],
    }
    lines += [TortureReport(name, tuple(those)).row() for name, those in groups.items()]
    return "\n".join(lines)


def main() -> None:
    """Run all inputs; print what happened to those of every model, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="shared out over the models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--store", type=Path, help="file that keeps finished inputs, JSON lines")
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    options = parser.parse_args()
    starts = range(0, options.inputs, _CHUNK)
    tasks = [(options.seed, i, min(i + _CHUNK, options.inputs)) for i in starts]
    by_model: dict[str, list[Outcome]] = {name_of(m): [] for m in range(len(MODELS))}
    seconds, begin = 0.0, time.monotonic()
    for start, spent, outcomes in finished(tasks, options.store, options.processes):
        seconds += spent
        for i, outcome in enumerate(outcomes, start):
            by_model[name_of(i % len(MODELS))].append(Outcome(**outcome))
        done = sum(map(len, by_model.values()))
        print(f"{done} inputs, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    everything = tuple(outcome for those in by_model.values() for outcome in those)
    reports = [TortureReport(name, tuple(those)) for name, those in by_model.items()]
    text = "\n".join(map(str, [*reports, TortureReport("all", everything)]))
    cost = f"{seconds / len(everything):.2f} s of CPU per input, restart included"
    print(f"{text}\n{cost}")
    if options.output:
        options.output.write_text(f"{table(by_model)}\n\n{cost}.\n\n```\n{text}\n```\n")


if __name__ == "__main__":
    main()
