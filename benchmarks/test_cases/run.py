"""Train every family on the same data from the same backbone, and compare them.

Everything lands in one folder; an interrupted run goes on where it stopped when called again::

    python benchmarks/test_cases/run.py sio2 --backbone quartz --out runs/sio2
    python benchmarks/test_cases/run.py al_water --backbone BACKBONE --out runs/al_water

where ``BACKBONE`` is what ``benchmarks/training/al-water_backbone_continued.yaml`` trains. The
folder keeps the frames and the budget it began with. Take a new one when the data have grown.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import entrants
import errors
import physics_al_water
import physics_sio2
from ase.io import read
from entrants import Budget, Entrant
from report import write_report
from splits import DATA, write_split

from asesc import SCCalculator
from asesc.allocator import keep_freed_memory
from asesc.errors import AsescError

_LOG = logging.getLogger("test_cases")


def physics(system: str, model: Path | str, folder: Path, options: argparse.Namespace) -> dict:
    """Checks beyond error tables; those of SiO2 only for families whose charge varies."""
    calc = SCCalculator(model, allow_extrapolation=True, allow_fractional_charge=True)
    # The physics looks at all frames: answers, not errors, are compared.
    frames = [atoms for name in ("test.xyz", "train.xyz") for atoms in read(folder / name, ":")]
    if system == "al_water":
        frames = [atoms for atoms in frames if "films" not in atoms.info["geometry_id"]]
        return physics_al_water.study(calc, frames[: options.look_at], steps=options.steps)
    if not calc.model.has_variable_charge:
        return {}
    vacancies = [atoms for atoms in frames if (atoms.numbers == 8).sum() % 2]
    return physics_sio2.study(calc, vacancies[: options.look_at], sizes=not options.quick)


def require_same(budget: Budget, path: Path) -> None:
    """Note the budget of a run, or refuse another one: all families get the same."""
    if not path.is_file():
        path.write_text(json.dumps(asdict(budget)) + "\n")
    elif (begun := json.loads(path.read_text())) != asdict(budget):
        raise SystemExit(f"{path.parent} was begun with {begun}; give the same, or another --out")


def kept(path: Path, compute: Callable[[], Any]) -> None:
    """Write a result unless an earlier run did; failures of a model are results too."""
    if path.is_file():
        return
    start = time.process_time()
    try:
        result = compute()
    except AsescError as error:
        result = {"failed": f"{type(error).__name__}: {error}"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result) + "\n")
    _LOG.info("%s: %.0f s", path.name, time.process_time() - start)


def main() -> None:
    """Split, train, evaluate, look at the physics, and write tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=("sio2", "al_water"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--backbone", help="model with a backbone to go on from; default: none")
    parser.add_argument("--only", type=Path, help="file with the names of the frames to take")
    parser.add_argument("--families", nargs="*", help="rows of the table; default: all")
    parser.add_argument("--also", nargs="*", default=[], help="models trained elsewhere")
    parser.add_argument("--epochs", type=int, default=Budget.epochs)
    parser.add_argument("--backbone-epochs", type=int, default=Budget.backbone_epochs)
    parser.add_argument("--steps", type=int, default=0, help="of dynamics of 500 atoms")
    parser.add_argument("--look-at", type=int, default=40, help="frames of the physics checks")
    parser.add_argument("--quick", action="store_true", help="without large supercells")
    options = parser.parse_args()
    if 0 < options.steps < 20:
        parser.error("a drift needs at least 20 steps")
    options.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(options.out / "log.txt")],
    )
    # Every charge of a scan would be told.
    logging.getLogger("asesc").setLevel(logging.WARNING)
    keep_freed_memory()
    compare(options)


def compare(options: argparse.Namespace) -> None:
    """Everything for one system."""
    folder, system = options.out, options.system
    train, test = write_split(system, folder, options.data, options.only)
    frames = read(train, ":")
    _LOG.info("%d frames to train on, %d held out", len(frames), len(read(test, ":")))
    budget = Budget(
        epochs=options.epochs, backbone_epochs=options.backbone_epochs, backbone=options.backbone
    )
    require_same(budget, folder / "budget.json")
    entrants.train_backbone(system, folder, frames, budget)
    own = entrants.entrants(system)
    also = {name: entrants.trained_elsewhere(name) for name in options.also}
    rows = [*own, *also.values()]
    for entrant in own:
        if options.families and entrant.name not in options.families:
            continue
        start = time.process_time()
        try:
            model = entrants.train_entrant(entrant, system, folder, budget)
        except AsescError as error:
            _LOG.warning("%s: training failed: %s", entrant.name, error)
            continue
        _LOG.info("%s trained: %.0f s", entrant.name, time.process_time() - start)
        study(entrant, model, test, options)
        write_report(system, finished(rows, folder), folder)
    for name, entrant in also.items():
        study(entrant, name, test, options)
        write_report(system, finished(rows, folder), folder)


def study(entrant: Entrant, model: Path | str, test: Path, options: argparse.Namespace) -> None:
    """Errors and physics of one trained model."""
    system, folder = options.system, options.out
    found = results_of(folder, entrant)
    kept(found["errors"], lambda: errors.measure(model, entrant, test))
    kept(found["physics"], lambda: physics(system, model, folder, options))


def results_of(folder: Path, entrant: Entrant) -> dict[str, Path]:
    """Files of an entrant's results."""
    names = ("errors", "physics")
    return {name: folder / "results" / f"{entrant.slug}_{name}.json" for name in names}


def finished(rows: Sequence[Entrant], folder: Path) -> dict[str, dict[str, Any]]:
    """Results of every row that has all of them, also from earlier runs."""
    files = {entrant.name: results_of(folder, entrant) for entrant in rows}
    return {
        name: {what: json.loads(path.read_text()) for what, path in found.items()}
        for name, found in files.items()
        if all(path.is_file() for path in found.values())
    }


if __name__ == "__main__":
    main()
