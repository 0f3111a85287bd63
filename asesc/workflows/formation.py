"""Formation energies of charge states over the Fermi level."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from asesc.workflows.defect_cells import Change, DefectCell
from asesc.workflows.defect_states import DefectState, Perfect
from asesc.workflows.figure import Path, axes_for, finished
from asesc.workflows.finite_size import Extrapolation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class FormationEnergies:
    """E_f(q, E_F) = E_q + E_corr − E_bulk − Σ n_i μ_i + q (E_VBM + E_F).

    Parameters
    ----------
    change : Change
        What the defect is; n_i are the atoms it gains.
    cell : DefectCell
        Before relaxation.
    title : str
        Crystal and model.
    states : tuple of DefectState
        Largest charge first.
    perfect : Perfect
        The supercell without the defect.
    chempots : mapping of symbol to float, eV
        μ_i.
    vbm : float, eV
    band_gap : float or None, eV
    dielectric : ndarray, (3, 3), or None
    extrapolations : tuple of Extrapolation
        Per charge in the order of ``states``; empty if there are none.
    """

    change: Change
    cell: DefectCell
    title: str
    states: tuple[DefectState, ...]
    perfect: Perfect
    chempots: Mapping[str, float]
    vbm: float
    band_gap: float | None
    dielectric: np.ndarray | None
    extrapolations: tuple[Extrapolation, ...]

    @property
    def charges(self) -> tuple[int, ...]:
        """Largest first, e."""
        return tuple(state.charge for state in self.states)

    def energy(self, charge: int, fermi_level: float = 0.0) -> float:
        """Corrected formation energy at a Fermi level above the valence band, eV."""
        state = self.states[self.charges.index(charge)]
        return self._formation(state.corrected_energy - self.perfect.energy, charge, fermi_level)

    def extrapolated_energy(self, charge: int, fermi_level: float = 0.0) -> float:
        """The same from the limit of growing, uncorrected cells, eV."""
        limits = {int(found.charge): found.limit for found in self.extrapolations}
        return self._formation(limits[charge], charge, fermi_level)

    @property
    def transition_levels(self) -> dict[tuple[int, int], float]:
        """Fermi levels above the valence band where the stable charge changes, {(q, q'): eV}."""
        levels: dict[tuple[int, int], float] = {}
        current, remaining = self.states[0].charge, [s.charge for s in self.states[1:]]
        while remaining:
            crossings = {q: self._crossing(current, q) for q in remaining}
            nearest = min(crossings, key=lambda q: (crossings[q], q))
            levels[current, nearest] = crossings[nearest]
            current, remaining = nearest, [q for q in remaining if q < nearest]
        return levels

    def stable_charge(self, fermi_level: float) -> int:
        """Charge of the lowest formation energy."""
        return min(self.charges, key=lambda q: self.energy(q, fermi_level))

    def rows(self) -> list[dict[str, Any]]:
        """One mapping per charge state, energies in eV at the top of the valence band."""
        rows = []
        for k, state in enumerate(self.states):
            correction = 0.0 if state.correction is None else state.correction.energy
            row = {
                "charge (e)": state.charge,
                "formation energy (eV)": self.energy(state.charge),
                "of which correction (eV)": correction,
                "of which relaxation (eV)": state.energy - state.unrelaxed_energy,
            }
            if self.extrapolations:
                row["extrapolated (eV)"] = self.extrapolated_energy(state.charge)
                row["ε of the extrapolation"] = self.extrapolations[k].dielectric
            rows.append(row)
        return rows

    def to_csv(self, path: Path) -> None:
        """The :meth:`rows` as a table."""
        rows = self.rows()
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def to_pymatgen(self) -> list[Any]:
        """``ComputedStructureEntry`` per charge, see :mod:`asesc.workflows.defect_exports`."""
        from asesc.workflows.defect_exports import computed_entries

        return computed_entries(self)

    def to_doped(self) -> list[Any]:
        """``doped.core.DefectEntry`` per charge, see :mod:`asesc.workflows.defect_exports`."""
        from asesc.workflows.defect_exports import doped_entries

        return doped_entries(self)

    def plot(self, path: Path | None = None, *, ax: Axes | None = None) -> Axes:
        """Formation energies over the Fermi level; the stable charge lies on a grey band."""
        ax = axes_for(path, ax)
        low, high = self._window()
        x = np.linspace(low, high, 400)
        lines = np.array([[self.energy(q, e) for e in x] for q in self.charges])
        for charge, line in zip(self.charges, lines, strict=True):
            ax.plot(x, line, lw=1.4, label=f"{charge:+d}".replace("-", "−") if charge else "0")
        ax.plot(x, lines.min(axis=0), color="0.82", lw=6, zorder=0.5, label="stable")
        for (q, other), level in self.transition_levels.items():
            if low <= level <= high:
                energy = self.energy(q, level)
                ax.plot(level, energy, "o", color="k", ms=5)
                ax.annotate(
                    f"{q:+d}/{other:+d} at {level:.2f} eV".replace("-", "−").replace("+0", "0"),
                    (level, energy),
                    xytext=(0, -18),
                    textcoords="offset points",
                    ha="center",
                    size=8,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
                )
        ax.set(xlabel="Fermi level above the valence band (eV)", ylabel="formation energy (eV)")
        ax.set_xlim(low, high)
        ax.set_title(f"{self.change.name} in {self.title}", fontsize=10)
        ax.legend(title="charge", fontsize=8)
        ax.grid(alpha=0.25)
        return finished(ax, path)

    def _formation(self, difference: float, charge: int, fermi_level: float) -> float:
        exchange = sum(n * self.chempots[symbol] for symbol, n in self.change.exchanged.items())
        return difference - exchange + charge * (self.vbm + fermi_level)

    def _crossing(self, charge: int, other: int) -> float:
        return (self.energy(other) - self.energy(charge)) / (charge - other)

    def _window(self) -> tuple[float, float]:
        if self.band_gap is not None:
            return 0.0, self.band_gap
        levels: Sequence[float] = list(self.transition_levels.values()) or [0.0]
        return min(0.0, *levels) - 0.5, max(0.0, *levels) + 1.0
