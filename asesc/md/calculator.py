"""A calculator that follows one trajectory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from ase import Atoms
from ase.geometry import find_mic

from asesc.calculators import SCCalculator
from asesc.calculators.prepared import PreparedModel
from asesc.errors import InputError
from asesc.models.base import Model
from asesc.models.one_map import OneMap

# Steps beyond these are jumps, not dynamics: Å, and strain.
_JUMP, _STRAIN = 0.5, 0.05


class DynamicsCalculator(SCCalculator):
    """:class:`~asesc.SCCalculator` for molecular dynamics: one map of the density per step.

    The density (and, where the energy is not stationary in it, its adjoint) is extrapolated from
    the last steps and corrected once, see :class:`~asesc.models.one_map.OneMap`. Energies and
    forces belong together to second order in what is left, and ``one_map.counts`` says how often a
    step had to be converged fully. Read-out and dense charge-equilibration families have nothing to
    iterate and are evaluated as always; a large `QEq` model converges every step by conjugate
    gradients from the extrapolated density.

    Every calculator follows one trajectory with a constant time step: one for each image or bead,
    ``calc.clone()``. When atoms, cell, charge or boundary jump, the history starts anew.

    Parameters
    ----------
    model, **keywords
        Of :class:`~asesc.SCCalculator`.
    order, residual_limit
        Of :class:`~asesc.models.one_map.OneMap`.

    Attributes
    ----------
    one_map : OneMap
    """

    def __init__(
        self, model: Any, *, order: int = 3, residual_limit: float | None = None, **keywords: Any
    ) -> None:
        self.one_map = OneMap(order=order, residual_limit=residual_limit)
        self._follows = False
        self._point: tuple[Any, np.ndarray, np.ndarray] | None = None
        self._point_before = self._point
        super().__init__(model, **keywords)

    def clone(self) -> Self:
        """A calculator with the same parameters and weights for another trajectory."""
        twin = super().clone()
        twin.one_map, twin._last = self.one_map.fresh(), None
        twin._point = twin._point_before = None
        return twin

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Collection[str] = ("energy",),
        *args: Any,
        **keywords: Any,
    ) -> None:
        """Evaluate the next step of the trajectory and keep the results; ASE's entry point."""
        structure = self._structure(atoms)
        self._point_before = self._point
        point = self._key(structure), structure.positions.copy(), structure.cell.array.copy()
        if self._point is not None and _jumped(self._point, point, structure.pbc):
            self.one_map.clear()
        # Until the step is done: it may be left by an error or by Ctrl-C at any moment.
        self._point = None
        self._follows = True
        try:
            super().calculate(atoms, properties, *args, **keywords)
            self._point = point
        finally:
            self._follows = False
            if self._point is None:
                # The history may hold half of a step.
                self._point_before = None
                self.one_map.clear()

    def _key(self, atoms: Atoms) -> tuple[Any, ...]:
        inputs = self._inputs(atoms)
        held = inputs.fermi_level is not None
        numbers, pbc = atoms.numbers.tobytes(), tuple(atoms.pbc.tolist())
        return inputs.weights, numbers, pbc, inputs.charge.value, held, inputs.boundary

    def _prepared(self, atoms: Atoms, inputs: Any) -> PreparedModel:
        prepared = super()._prepared(atoms, inputs)
        if self._follows and isinstance(self.model, Model):
            return replace(prepared, solve=self.one_map.solve)
        return prepared

    def arrays(self) -> dict[str, np.ndarray]:
        """What the last step started from, for a restart that repeats it to the last bit."""
        values = {name: value.cpu().numpy() for name, value in self.one_map.arrays().items()}
        if self._point_before is not None:
            _, values["positions_before"], values["cell_before"] = self._point_before
        return values

    def restore(self, atoms: Atoms, values: dict[str, np.ndarray]) -> None:
        """Take what :meth:`arrays` gave for these atoms, at the step that it belongs to.

        Raises
        ------
        InputError
            If it belongs to other atoms.
        """
        values = dict(values)
        positions, cell = values.pop("positions_before", None), values.pop("cell_before", None)
        start = values.get("start")
        if start is not None and len(start) != len(atoms):
            raise InputError(
                f"the history is that of {len(start)} atoms, but there are {len(atoms)}; restart "
                "with the atoms of the same file"
            )
        self.reset()
        device = self._opened.torch_device
        self.one_map.restore(
            {name: torch.as_tensor(value, device=device) for name, value in values.items()}
        )
        self._last = None
        self._point = None if positions is None else (self._key(atoms), positions, cell)


def _jumped(old: tuple[Any, ...], new: tuple[Any, ...], pbc: np.ndarray) -> bool:
    """Whether two points cannot be a time step apart."""
    if old[0] != new[0]:
        return True
    if np.linalg.norm(new[2] - old[2]) > _STRAIN * max(np.linalg.norm(old[2]), 1.0):
        return True
    _, lengths = find_mic(new[1] - old[1], new[2], pbc)
    return bool(lengths.max() > _JUMP)
