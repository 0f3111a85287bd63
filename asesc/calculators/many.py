"""What a calculator of models gains: the structures of a batch in one pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from asesc.calculators.batches import FAILURES, Answer, attempted
from asesc.calculators.evaluation import (
    Evaluation,
    dipole_origin,
    evaluate_batch,
    spans_volume,
    with_gradients,
)
from asesc.calculators.prepared import PreparedModel
from asesc.calculators.responses import RESPONSES
from asesc.calculators.sanity import check_contacts, check_geometry
from asesc.electrostatics.field import periodic_axis_of_field
from asesc.system import System, joined

#: Index of a frame, what was read from it, and its tensors.
Bound = tuple[int, Any, System]


class ManyStructures:
    """Evaluates many structures at once where a shell alone would take one after the other."""

    @with_gradients
    def evaluate_batch(
        self,
        frames: Sequence[Atoms],
        properties: Collection[str] = ("energy",),
        *,
        starts: Sequence[Tensor | None] | None = None,
    ) -> list[Answer]:
        """All structures in one pass, or one per boundary; failures stand in their places.

        The numbers are those of ``evaluate(frame)``, to rounding. Born charges and ε∞ take a solve
        of their own and are evaluated one by one.

        Parameters
        ----------
        starts : sequence of Tensor (N, M), optional
            Densities of the same atoms at nearby positions.
        """
        self._require_offered(properties)
        if set(RESPONSES) & set(properties):
            return [attempted(self, frame, properties) for frame in frames]
        answers: dict[int, Answer] = {}
        groups: dict[tuple[Any, ...], list[Bound]] = {}
        for n, frame in enumerate(frames):
            try:
                inputs, system = self._bind(frame)
            except FAILURES as error:
                answers[n] = error
            else:
                groups.setdefault(_kind(system), []).append((n, inputs, system))
        for members in groups.values():
            answers |= self._halved(members, frames, properties, starts)
        return [answers[n] for n in range(len(frames))]

    def _halved(
        self,
        members: Sequence[Bound],
        frames: Sequence[Atoms],
        properties: Collection[str],
        starts: Sequence[Tensor | None] | None,
    ) -> dict[int, Answer]:
        """One batch; where it fails its halves, down to the structures that are to blame."""
        if len(members) == 1:
            n = members[0][0]
            return {n: attempted(self, frames[n], properties)}
        try:
            return dict(self._together(members, frames, properties, starts))
        except FAILURES:
            middle = len(members) // 2
            halves = members[:middle], members[middle:]
        first, second = (self._halved(half, frames, properties, starts) for half in halves)
        return first | second

    def _together(
        self,
        members: Sequence[Bound],
        frames: Sequence[Atoms],
        properties: Collection[str],
        starts: Sequence[Tensor | None] | None,
    ) -> Iterator[tuple[int, Evaluation]]:
        """One batch; its error where any of its structures has one."""
        start = None
        if starts is not None and all(starts[n] is not None for n, _, _ in members):
            start = torch.cat([starts[n] for n, _, _ in members])
        inputs = members[0][1]
        outcomes = evaluate_batch(
            PreparedModel(self.model, inputs.scf, start, accuracy=inputs.accuracy),
            joined([system for _, _, system in members]),
            boundary=inputs.boundary,
            origins=[dipole_origin(frames[n]) for n, _, _ in members],
            properties=properties,
        )
        for (n, own, system), outcome in zip(members, outcomes, strict=True):
            self._complete(frames[n], own, system, outcome)
        return zip((n for n, _, _ in members), outcomes, strict=True)

    def _bind(self, atoms: Atoms) -> tuple[Any, System]:
        """Inputs and structure of one frame, after every check that can be made before the cost."""
        check_geometry(atoms)
        inputs = self._inputs(atoms)
        self._check_scope(atoms, inputs)
        system = self._system(atoms, inputs)
        check_contacts(system)
        self._advise(atoms, inputs)
        return inputs, system


def _kind(system: System) -> tuple[Any, ...]:
    """What structures must share to be one batch: the boundary, and what is defined for them."""
    # Where a field runs along a periodic direction there is no Fermi level.
    defined = spans_volume(system), periodic_axis_of_field(system) is None
    optional = (system.fermi_level, system.spin, system.charge_sites)
    return system.pbc, *defined, *(given is None for given in optional)
