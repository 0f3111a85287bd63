"""Where a charge sits when it can sit on several atoms: a search over oxidation states."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asesc.errors import InputError, SeveralMinimaWarning
from asesc.models.energy_surface import EnergySurface
from asesc.solvers import Solution, Stage
from asesc.system import System

#: Minima that differ by less than this in every charge, e, are one.
_SAME = 1e-3
#: Minima named in a warning.
_LISTED = 8

FindMinimum = Callable[[EnergySurface, Tensor], tuple[Tensor, Solution]]


@dataclass(frozen=True)
class Placement:
    """Where the charge beyond the formal charges is put.

    ``share`` (N,) of it on every atom, adding up to 1, a constant where ``chosen`` (B,): elsewhere
    the learned shares stay, which move with the atoms. The ``stages`` of the search, none where
    nothing was searched.
    """

    share: Tensor
    chosen: Tensor
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class _Minimum:
    """A minimum of one structure: energy, eV; atom of the last unit; charges (n,), e."""

    energy: float
    site: int
    charges: Tensor


@torch.no_grad()
def place_charge(
    surface: EnergySurface, formal: Tensor, start: Tensor, find: FindMinimum
) -> Placement:
    """Put the charge beyond the formal charges on atoms, in units of about one e.

    Q − Σq⁰ is divided into |Q − Σq⁰| equal units, rounded. In structures with
    ``system.charge_sites`` it goes there, and nothing is searched. In the others the units are
    placed one after the other, each where the relaxed energy is lowest with those before it; every
    atom is tried, so that the result depends on nothing but the structure. Below half a unit the
    learned shares of the convex functional stay.

    Parameters
    ----------
    surface : EnergySurface
        Without graph.
    formal : Tensor, (N,), e
        Formal charges.
    start : Tensor, (N, M)
        Node potentials from which every minimisation starts.
    find : callable
        The minimum of a surface from a start.

    Raises
    ------
    InputError
        For ``charge_sites`` that are no weights.

    Warns
    -----
    SeveralMinimaWarning
        Where a search ends in more than one minimum.
    """
    system = surface.problem.system
    excess = system.charge - system.sum(formal)
    units = excess.abs().round()
    share = torch.where(units[system.batch] > 0, 0.0, surface.response.share)
    weights = _site_weights(system)
    total = system.sum(weights)
    share = torch.where(total[system.batch] > 0, weights / total[system.batch], share)
    searching, chosen = (units > 0) & ~(total > 0), (units > 0) | (total > 0)
    if not bool(searching.any()):
        return Placement(share, chosen)
    unit_charge = torch.where(searching, excess / units, 0.0)
    base = formal + share * excess[system.batch]
    search = _Search(surface, base, unit_charge, start, find)
    for unit in range(int(units[searching].max())):
        search.place(searching & (units > unit))
    search.warn(system)
    share = share + search.counts / units.clamp(min=1)[system.batch]
    return Placement(share, chosen, (search.stage(searching),))


class _Search:
    """Units of charge placed one after the other in all structures of a batch at once."""

    def __init__(
        self,
        surface: EnergySurface,
        base: Tensor,
        unit_charge: Tensor,
        start: Tensor,
        find: FindMinimum,
    ) -> None:
        self._surface, self._base, self._unit_charge = surface, base, unit_charge
        self._start, self._find = start, find
        self.counts = torch.zeros_like(base)
        self._minima: dict[int, list[_Minimum]] = {}
        self._maps, self._residual = 0, 0.0

    def place(self, active: Tensor) -> None:
        """One unit more in the structures where ``active`` (B,), on their best atom."""
        system = self._surface.problem.system
        rank, batch = system.layout.rank, system.batch
        best = torch.full_like(system.charge, torch.inf)
        counts = self.counts
        self._minima.update({int(b): [] for b in active.nonzero()[:, 0]})
        for site in range(system.layout.shape[1]):
            trial = self.counts + ((rank == site) & active[batch])
            energy, charges = self._relaxed(trial)
            exists = active & (system.counts > site)
            self._record(site, exists, energy, charges)
            better = exists & (energy < best - 1e-9)
            best = torch.where(better, energy, best)
            counts = torch.where(better[batch], trial, counts)
        self.counts = counts

    def _relaxed(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (B,) and charges (N,) with units on the atoms counted."""
        batch = self._surface.problem.system.batch
        reference = self._base + counts * self._unit_charge[batch]
        response = replace(self._surface.response, formal=reference)
        surface = replace(self._surface, response=response)
        w, solution = self._find(surface, self._start)
        self._maps += solution.iterations
        self._residual = max(self._residual, solution.residual)
        return surface.energy(w), surface.flow(w).coefficients[:, 0]

    def _record(self, site: int, exists: Tensor, energy: Tensor, charges: Tensor) -> None:
        batch = self._surface.problem.system.batch
        for b in exists.nonzero()[:, 0].tolist():
            found = _Minimum(float(energy[b]), site, charges[batch == b])
            known = self._minima[b]
            if all(float((m.charges - found.charges).abs().max()) > _SAME for m in known):
                known.append(found)

    def warn(self, system: System) -> None:
        """List the minima of every structure that has several."""
        for b, minima in sorted(self._minima.items()):
            if len(minima) < 2:
                continue
            lowest = min(m.energy for m in minima)
            ordered = sorted((round(m.energy - lowest, 6), m.site) for m in minima)
            names = [f"atom {site} {energy:+.4f} eV" for energy, site in ordered[:_LISTED]]
            more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
            which = f" of structure {b}" if system.n_structures > 1 else ""
            warnings.warn(
                f"the charge{which} has {len(ordered)} minima, on {', '.join(names)}{more}; the "
                "lowest is used, and another one may be lowest after the atoms have moved. Choose "
                "with atoms.info['charge_sites'] = [atom index, …] (System.charge_sites)",
                SeveralMinimaWarning,
                stacklevel=2,
            )

    def stage(self, searching: Tensor) -> Stage:
        """What the search cost."""
        n = int(searching.sum())
        note = f"{sum(len(m) for m in self._minima.values())} minima"
        return Stage("search over sites", n, n, self._maps, 0, self._residual, note)


def _site_weights(system: System) -> Tensor:
    """``charge_sites`` or zeros, (N,)."""
    weights = system.charge_sites
    if weights is None:
        return torch.zeros_like(system.positions[:, 0])
    if weights.shape != system.batch.shape or not bool((weights >= 0).all()):
        raise InputError(
            f"charge_sites must be one weight ≥ 0 per atom ({system.n_atoms} atoms), got "
            f"{weights.tolist()}: it says which atoms carry the charge beyond the formal charges"
        )
    return weights
