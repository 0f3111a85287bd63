"""Many structures in one batch: displacements, images, frames."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from ase import Atoms

from asesc.calculators.evaluation import Evaluation, with_gradients
from asesc.calculators.prepared import PreparedModel
from asesc.calculators.sanity import check_contacts, check_geometry
from asesc.response import ForceResult, energy_and_forces
from asesc.system import System

#: What a batch computes; anything else is asked one by one.
_BATCHED = frozenset({"energy", "free_energy", "forces", "charges"})


class ManyStructures:
    """What a calculator of models gains: one batch for many structures."""

    @with_gradients
    def evaluate_many(
        self, frames: Sequence[Atoms], properties: Collection[str] = ("energy",)
    ) -> list[Evaluation]:
        """Energies, forces and charges of many structures, without touching what is cached.

        The numbers are those of ``evaluate(frame)``, to rounding. What does not fit into one batch
        (other properties, boundaries or ensembles), and batches that did not converge, are
        evaluated one by one, where recovery and messages are.

        Raises
        ------
        InputError, ModelScopeError, PropertyUnavailableError, SCFError, IllPosedError
            Of the first structure that fails.
        """
        self._require_offered(properties)
        one_boundary = len({tuple(frame.pbc) for frame in frames}) == 1
        if one_boundary and set(properties) <= _BATCHED:
            bound = [self._bind(frame) for frame in frames]
            systems = [system for _, system in bound]
            if not any(_is_special(system) for system in systems):
                model = PreparedModel(self.model, bound[0][0].scf)
                outcome = energy_and_forces(model, joined(systems), boundary=bound[0][0].boundary)
                if outcome.prediction.solution.converged and _is_finite(outcome):
                    return _split(outcome, systems)
        return [self.evaluate(frame, properties) for frame in frames]

    def _bind(self, atoms: Atoms) -> tuple[Any, System]:
        """Inputs and structure of one frame, after every check that can be made before the cost."""
        check_geometry(atoms)
        inputs = self._inputs(atoms)
        self._check_scope(atoms, inputs)
        system = self._system(atoms, inputs)
        check_contacts(system)
        self._advise(atoms, inputs)
        return inputs, system


def _split(outcome: ForceResult, systems: Sequence[System]) -> list[Evaluation]:
    """The results of every structure of a batch."""
    prediction = outcome.prediction
    counts = [system.n_atoms for system in systems]
    energies = prediction.energy.detach().tolist()
    forces = outcome.forces.detach().cpu().double().split(counts)
    charges = prediction.density.charges.detach().cpu().double().split(counts)
    answers = []
    for energy, force, charge in zip(energies, forces, charges, strict=True):
        results = {"energy": energy, "free_energy": energy}
        results |= {"forces": force.numpy().copy(), "charges": charge.numpy().copy()}
        answers.append(Evaluation(results, {}, prediction.solution))
    return answers


def _is_finite(outcome: ForceResult) -> bool:
    numbers = (outcome.prediction.energy, outcome.forces)
    return all(bool(torch.isfinite(values).all()) for values in numbers)


def joined(systems: Sequence[System]) -> System:
    """Structures of one boundary as one batch, in their order."""
    offsets = range(len(systems))
    return replace(
        systems[0],
        positions=torch.cat([system.positions for system in systems]),
        numbers=torch.cat([system.numbers for system in systems]),
        cell=torch.cat([system.cell for system in systems]),
        batch=torch.cat([s.batch + n for s, n in zip(systems, offsets, strict=True)]),
        charge=torch.cat([system.charge for system in systems]),
        electric_field=torch.cat([system.electric_field for system in systems]),
    )


def _is_special(system: System) -> bool:
    """Whether it has inputs that are not the same kind for all structures."""
    return any(
        given is not None for given in (system.fermi_level, system.spin, system.charge_sites)
    )
