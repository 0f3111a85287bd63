"""One structure through one model: tensors below, ASE's names and arrays above."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from asesc.errors import IllPosedError, PropertyUnavailableError, SCFError
from asesc.models import Potential, Prediction
from asesc.response import ForceResult, energy_and_forces, molecular_dipole, polarisation
from asesc.response.forces import require_stress
from asesc.solvers import Solution
from asesc.system import System

_T = TypeVar("_T")
_FULL_TO_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


@dataclass(frozen=True)
class Evaluation:
    """Outcome of one evaluation.

    Parameters
    ----------
    results : dict
        Under ASE's names only: energy and free_energy (eV), forces (N, 3), charges (N,), and
        where they are defined fermi_level (eV), stress (6,) in Voigt order, dipole (3,) e Å,
        polarization (3,) e/Å².
    extras : dict
        Everything else: ``charge`` (e), given or found, ``contributions`` (eV), ``multipoles``
        (N, M) of Gaussians with ``widths`` (N,) Å, ``potential`` (N, M), ``chemical_potential`` (V)
        where the family defines it, ``conjugate_dipole`` = −∂E/∂field (3,) e Å about the origin of
        the coordinates, ``dipole_origin`` (3,) Å.
    scf : Solution
        What the solver did.
    """

    results: dict[str, Any]
    extras: dict[str, Any]
    scf: Solution


def dipole_origin(atoms: Atoms) -> np.ndarray:
    """The centre of mass, (3,), Å; of the positions where nothing has a mass."""
    if atoms.get_masses().sum() > 0:
        return atoms.get_center_of_mass()
    return atoms.positions.mean(axis=0)


def with_gradients(function: Callable[..., _T]) -> Callable[..., _T]:
    """Let a function make tensors and differentiate, whatever its caller switched off."""
    return torch.inference_mode(False)(torch.enable_grad()(function))


def evaluate(
    model: Potential,
    system: System,
    *,
    boundary: str,
    origin: np.ndarray,
    properties: Collection[str] = (),
) -> Evaluation:
    """Energy and its first derivatives of one structure; see :func:`evaluate_batch`."""
    (answer,) = evaluate_batch(
        model, system, boundary=boundary, origins=[origin], properties=properties
    )
    return answer


def evaluate_batch(
    model: Potential,
    system: System,
    *,
    boundary: str,
    origins: Sequence[np.ndarray],
    properties: Collection[str] = (),
) -> list[Evaluation]:
    """Energies and first derivatives of the structures of a batch; no state, safe in threads.

    Parameters
    ----------
    system : System
        Where one cell has no volume (the slab of a file without vacuum) none gets a stress.
    origins : sequence of (3,), Å
        Points about which the dipoles of charged structures are taken.
    properties
        Refused with the reason if one of them is not defined here. All that are defined are
        computed whether named or not, since they come from one pass.

    Raises
    ------
    PropertyUnavailableError
        A property asked for is not defined for this boundary, charge or family.
    SCFError
        The density is not converged.
    IllPosedError
        A result is not finite.
    """
    _refuse(system, properties)
    has_stress = sum(system.pbc) >= 2 and spans_volume(system)
    if not model.variational:
        # Then −∂E/∂field is another number than the dipole of the density.
        field = system.electric_field.detach().clone().requires_grad_()
        system = replace(system, electric_field=field)
    outcome = energy_and_forces(model, system, stress=has_stress, boundary=boundary)
    solution = outcome.prediction.solution
    if not solution.converged:
        raise SCFError(
            f"{solution}. The energy would depend on where the solver stopped. Check "
            "the geometry, the charge and the field; calc.scf is not set",
            history=solution.history,
        )
    _require_answers(model, outcome.prediction, properties)
    return [
        _answer(model, part, single, origin, properties)
        for part, single, origin in zip(outcome.split(system), system.split(), origins, strict=True)
    ]


def _require_answers(model: Potential, prediction: Prediction, properties: Collection[str]) -> None:
    """Refuse what this family does not have."""
    if "fermi_level" in properties and prediction.fermi_level is None:
        raise PropertyUnavailableError(
            f"'fermi_level' is −∂E/∂Q, which the family {model.family} does not define, or not in "
            "a field along a periodic direction"
        )
    if {"magmom", "magmoms"} & set(properties) and prediction.spins is None:
        raise PropertyUnavailableError(f"the family {model.family} has no spin, hence no magmoms")


def _answer(
    model: Potential,
    outcome: ForceResult,
    system: System,
    origin: np.ndarray,
    properties: Collection[str],
) -> Evaluation:
    """One structure under ASE's names."""
    prediction = outcome.prediction
    results = _results(outcome)
    extras = _extras(outcome)
    if not all(system.pbc):
        results["dipole"] = _open_dipole(prediction, system, origin)
        extras["dipole_origin"] = np.array(origin, dtype=float)
    if "polarization" in properties or _is_polarised(model, system):
        results["polarization"] = _array(polarisation(model, prediction, system)[0])
    _require_finite(results, system)
    return Evaluation(results, extras, prediction.solution)


def _refuse(system: System, properties: Collection[str]) -> None:
    """Refuse before the cost what no evaluation can give."""
    if "stress" in properties:
        require_stress(system)
        if not spans_volume(system):
            raise PropertyUnavailableError(
                "'stress' is energy per volume, but the cell vector along the open axis is zero "
                "and the cell has no volume. Give the slab a height: atoms.center(vacuum=…, axis=…)"
            )
    if "dipole" in properties and all(system.pbc):
        raise PropertyUnavailableError(
            "'dipole' is not defined for pbc=TTT: it depends on the choice of the cell. Use "
            "'polarization' (modulo its quantum) or 'born_effective_charges'; for a molecule in "
            "a box set atoms.pbc=False"
        )


def spans_volume(system: System) -> bool:
    """Whether every cell has a volume, as a stress needs."""
    return bool((system.volume > 1e-6).all())


def _is_polarised(model: Potential, system: System) -> bool:
    neutral = system.fermi_level is None and not bool((system.charge != 0).any())
    return all(system.pbc) and model.has_itinerant_polarisation and neutral


def _open_dipole(prediction: Prediction, system: System, origin: np.ndarray) -> np.ndarray:
    """Dipole along the open directions; zero along periodic ones, where it has branches."""
    about = torch.as_tensor(origin, dtype=system.cell.dtype, device=system.cell.device)
    dipole = _array(molecular_dipole(prediction, origin=about)[0])
    if not any(system.pbc):
        return dipole
    first, second = (_array(system.cell[0, axis]) for axis in range(3) if system.pbc[axis])
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal)
    return normal * (normal @ dipole)


def _results(outcome: ForceResult) -> dict[str, Any]:
    energy = float(outcome.prediction.energy.detach())
    results = {
        "energy": energy,
        "free_energy": energy,
        "forces": _array(outcome.forces),
        "charges": _array(outcome.prediction.density.charges),
    }
    level = outcome.prediction.fermi_level
    if level is not None:
        results["fermi_level"] = float(level.detach())
    if outcome.prediction.spins is not None:
        results["magmoms"] = _array(outcome.prediction.spins)
        results["magmom"] = float(results["magmoms"].sum())
    if outcome.stress is not None:
        results["stress"] = _array(outcome.stress[0])[_FULL_TO_VOIGT]
    return results


def _extras(outcome: ForceResult) -> dict[str, Any]:
    prediction, conjugate = outcome.prediction, outcome.conjugate_dipole
    extras = {
        "charge": float(prediction.charge.detach()),
        "contributions": {k: float(v.detach()) for k, v in prediction.contributions.items()},
        "multipoles": _array(prediction.density.coefficients),
        "widths": _array(prediction.density.basis.widths),
        "potential": _array(prediction.potential),
        "conjugate_dipole": _array((prediction.dipole if conjugate is None else conjugate)[0]),
    }
    if prediction.engine is not None:
        extras["coulomb_engine"] = str(prediction.engine)
    if prediction.chemical_potential is not None:
        extras["chemical_potential"] = float(prediction.chemical_potential.detach())
    return extras


def _require_finite(results: dict[str, Any], system: System) -> None:
    for name, value in results.items():
        if not np.isfinite(value).all():
            raise IllPosedError(
                f"{name!r} of these {system.n_atoms} atoms is not finite (energy "
                f"{results['energy']}). The weights or the geometry are damaged, or float32 "
                "overflowed; check the positions and use dtype='float64'"
            )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy().copy()
