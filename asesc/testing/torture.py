"""Hard inputs for self-consistency, and what a model makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from asesc.electrostatics.field import along_open_axes
from asesc.errors import AsescError
from asesc.models import Potential, Prediction
from asesc.system import System
from asesc.testing.structures import ALL_PBC, example_system

KINDS = ("rattled", "compressed", "stretched", "broken", "slab")
#: A restart from the answer may not move the energy by more than this, eV, or this part of it.
_RESTART, _ROUNDING = 1e-6, 1e-11
_CHARGE = 1e-8  # e
_BINS = (1, 2, 5, 10, 20, 50, 100, 1000)


def hard_inputs(numbers: Sequence[int], n: int, *, seed: int = 0) -> Iterator[tuple[str, System]]:
    """The first ``n`` of :func:`hard_input`."""
    return (hard_input(numbers, i, seed=seed) for i in range(n))


def hard_input(numbers: Sequence[int], i: int, *, seed: int = 0) -> tuple[str, System]:
    """The ``i``-th structure of a seed, and its kind.

    2 to 8 atoms drawn from ``numbers``, isolated, in a crystal or in a slab; rattled by 0.15 Å,
    compressed to 0.7 or stretched to 1.6 times their size, or broken in two parts up to 30 Å apart;
    charges −2 … 2, to be put on two of the atoms where charge localises; in half of them a field of
    up to 1 V/Å.
    """
    generator = np.random.default_rng([seed, i])
    kind = KINDS[i % len(KINDS)]
    system = _structure(kind, numbers, generator)
    charge = float(generator.integers(-2, 3))
    direction = generator.normal(size=3)
    strength = generator.uniform() * (generator.uniform() < 0.5)
    field = torch.tensor(strength * direction / np.linalg.norm(direction))
    sites = torch.tensor(generator.permutation(system.n_atoms) < 2).double()
    conditions = {
        "charge": torch.full_like(system.charge, charge),
        "electric_field": field[None],
        "charge_sites": sites,
    }
    return kind, replace(system, **conditions)


def _structure(kind: str, numbers: Sequence[int], generator: np.random.Generator) -> System:
    slabs = [pbc for pbc in ALL_PBC if sum(pbc) == 2]
    others = [pbc for pbc in ALL_PBC if sum(pbc) != 2]
    among = slabs if kind == "slab" else others
    pbc = among[generator.integers(len(among))]
    chosen = generator.choice(numbers, size=generator.integers(2, 9)).tolist()
    system = example_system(chosen, pbc, seed=int(generator.integers(2**31)))
    rattle = torch.tensor(generator.normal(scale=0.15, size=(len(chosen), 3)))
    system = replace(system, positions=system.positions + rattle)
    if kind in ("compressed", "stretched"):
        factor = generator.uniform(0.7, 1.0) if kind == "compressed" else generator.uniform(1, 1.6)
        return replace(system, positions=factor * system.positions, cell=factor * system.cell)
    if kind == "broken":
        return _broken(system, generator.uniform(2, 30))
    return system


def _broken(system: System, distance: float) -> System:
    """The upper half moved along the third cell vector, which grows by as much."""
    axis = system.cell[0, 2] / torch.linalg.vector_norm(system.cell[0, 2])
    height = system.positions @ axis
    positions = system.positions + distance * (height > height.median())[:, None] * axis
    cell = system.cell.clone()
    cell[0, 2] += distance * axis
    return replace(system, positions=positions, cell=cell)


@dataclass(frozen=True)
class Outcome:
    """What one model made of one input.

    ``maps`` it needed; or the name of the ``error`` it raised; or a ``flaw``: what is wrong with
    numbers that were returned.
    """

    kind: str
    maps: int = 0
    error: str = ""
    flaw: str = ""


def endure(model: Potential, kind: str, system: System) -> Outcome:
    """Evaluate one input; errors that are not of this package are let through."""
    if not model.has_itinerant_polarisation or bool((system.charge != 0).any()):
        system = replace(system, electric_field=along_open_axes(system, system.electric_field))
    try:
        with torch.no_grad():
            prediction = model(system)
    except AsescError as error:
        return Outcome(kind, error=f"{type(error).__name__}: {error}")
    return Outcome(kind, prediction.solution.iterations, flaw=_flaw(model, system, prediction))


@torch.no_grad()
def _flaw(model: Potential, system: System, prediction: Prediction) -> str:
    numbers = torch.cat([prediction.energy, prediction.density.coefficients.flatten()])
    if not bool(torch.isfinite(numbers).all()):
        return "not finite"
    if not prediction.solution.converged:
        return f"not converged: {prediction.solution}"
    charge = float((prediction.density.charges.sum() - system.charge).abs())
    if charge > _CHARGE:
        return f"the charge is off by {charge:.1e} e"
    again = model(system, start=prediction.density.coefficients)
    moved = float((again.energy - prediction.energy).abs())
    allowed = max(_RESTART, _ROUNDING * float(prediction.energy.abs()))
    return f"a restart moves the energy by {moved:.1e} eV" if moved > allowed else ""


@dataclass(frozen=True)
class TortureReport:
    """Outcomes of one model."""

    subject: str
    outcomes: tuple[Outcome, ...]

    @classmethod
    def of(
        cls, subject: str, model: Potential, inputs: Iterable[tuple[str, System]]
    ) -> TortureReport:
        """Run a model over inputs."""
        return cls(subject, tuple(endure(model, kind, system) for kind, system in inputs))

    @property
    def converged(self) -> tuple[Outcome, ...]:
        """Those with numbers."""
        return tuple(outcome for outcome in self.outcomes if not outcome.error)

    @property
    def flawed(self) -> tuple[Outcome, ...]:
        """Those with numbers that should not have been returned."""
        return tuple(outcome for outcome in self.converged if outcome.flaw)

    @property
    def maps(self) -> np.ndarray:
        """Maps of those that converged."""
        return np.array([outcome.maps for outcome in self.converged])

    def row(self) -> str:
        """One line of a Markdown table: subject, inputs, converged, raised, flawed, and median,
        99th percentile and maximum of the maps."""
        n, maps = len(self.outcomes), self.maps
        raised = n - len(self.converged)
        share = f"{100 * len(maps) / n:.2f} %"
        spread = f"{np.median(maps):g}", f"{np.percentile(maps, 99):.0f}", str(maps.max())
        cells = [self.subject, str(n), share, str(raised), str(len(self.flawed)), *spread]
        return "| " + " | ".join(cells) + " |"

    def __str__(self) -> str:
        n, maps = len(self.outcomes), self.maps
        counts, low = [], 0
        for high in _BINS:
            counts.append(f"≤{high}: {int(((maps > low) & (maps <= high)).sum())}")
            low = high
        lines = [
            f"{self.subject}: {len(maps)} of {n} converged ({100 * len(maps) / n:.2f} %), "
            f"{len(self.flawed)} flawed; maps: median {np.median(maps):g}, "
            f"p99 {np.percentile(maps, 99):g}, largest {maps.max()}",
            f"  {', '.join(counts)}",
        ]
        errors = Counter(f"{o.kind}: {o.error[:110]}" for o in self.outcomes if o.error)
        lines += [f"  {times} × {what}" for what, times in errors.most_common()]
        lines += [f"  FLAW {outcome.kind}: {outcome.flaw}" for outcome in self.flawed]
        return "\n".join(lines)
