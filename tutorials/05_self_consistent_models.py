"""Self-consistent models: which family when.

Question: a bond breaks and its charge jumps back. Which families can learn that, and its field?
Answer: those whose charge answers to a potential other than in proportion;
``05_which_family.png``.

Runs in under a minute on one CPU thread. Units are eV, Å, e, V/Å throughout.
Authors: the asesc developers.
"""

# %% A truth that can be written down
# An alkali hydride, M+H− at short distances and M + H at long ones: two electronic states whose
# energies cross where k/R = I, and a coupling V that mixes them. The lower state has
#     E = A(R) + ½Δ − ½√(Δ² + 4V²),   q = ½ − ½Δ/√(Δ² + 4V²),   Δ = I − k/R + F R,
# with the charge q on M and a field F along the bond, which has the dipole −qR.
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from ase import Atoms

from asesc import SCCalculator
from asesc.models import FAMILIES
from asesc.response import conjugacy
from asesc.system import System
from asesc.units import COULOMB

IONISATION = 4.38  # eV, of Na less the electron affinity of H


def truth(distance: np.ndarray, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy, eV, and charge of the metal, e."""
    gap = IONISATION - COULOMB / distance + field * distance
    coupling = 1.2 * np.exp(-(distance - 2.0) / 2.5)
    root = np.sqrt(gap**2 + 4 * coupling**2)
    return 40 * np.exp(-distance / 0.5) + 0.5 * (gap - root), 0.5 - 0.5 * gap / root


def molecules(distance: np.ndarray, field: np.ndarray) -> System:
    """NaH along x, one for every distance and field, in one batch."""
    atoms = [Atoms("NaH", [(0, 0, 0), (r, 0, 0)]) for r in distance]
    return System.from_atoms(atoms, electric_field=np.stack([field, 0 * field, 0 * field], 1))


def grid(distances: np.ndarray, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs."""
    distance, field = np.meshgrid(distances, fields)
    return distance.ravel(), field.ravel()


seen = grid(np.array([1.8, 2.2, 2.6, 3.0, 3.5, 4.0]), np.linspace(-1.2, 1.2, 7))
unseen = grid(np.array([2.0, 2.4, 2.8, 3.2, 3.7]), np.linspace(-1.0, 1.0, 5))

# %% Every family on the same data
# Nothing else is special about a self-consistent model in a training loop: the density that comes
# back carries its exact derivatives, however many steps the solver took (implicit differentiation),
# so that `backward` is all there is. Energies and dipoles are the labels.
IONS = {"formal_charges": {11: 1, 1: -1}}  # what charge is counted from
CHOICES = {
    "LocalCharges": {},
    "QEq": {},
    "SplitChargeEquilibration": IONS,
    "FixedPoint": {"update": "gated"},
    "EnergyFunctional": IONS,
}
BACKBONE = {
    "elements": [1, 11],
    "cutoff": 6.0,
    "channels": 8,
    "radial_width": 16,
    "layers": 1,
    "edge_lmax": 1,
    "correlation": 1,
    "n_neighbors": 1.0,
}
STEPS = 200


def errors(model: torch.nn.Module, pairs: tuple[np.ndarray, np.ndarray]) -> torch.Tensor:
    """Deviations of energy, eV, and dipole, e Å, (2, number of molecules)."""
    energy, charge = map(torch.tensor, truth(*pairs))
    found = model(molecules(*pairs))
    return torch.stack(
        [found.energy - energy, found.dipole[:, 0] + charge * torch.tensor(pairs[0])]
    )


def trained(family: str) -> torch.nn.Module:
    """A model of a family that has seen the data."""
    torch.manual_seed(0)
    model = FAMILIES[family](backbone=BACKBONE, lmax=0, width=2.0, **CHOICES[family])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        optimiser.zero_grad()
        (errors(model, seen) / torch.tensor([[0.2], [0.1]])).square().mean().backward()
        optimiser.step()
        schedule.step()
    return model


models, seconds, table = {}, {}, {}
print("family                     energy     dipole    seconds of training")
for family in CHOICES:
    start = time.process_time()
    models[family] = trained(family)
    seconds[family] = time.process_time() - start
    with torch.no_grad():
        table[family] = errors(models[family], unseen).square().mean(1).sqrt().tolist()
    energy, dipole = table[family]
    print(f"{family:25s} {energy:5.3f} eV  {dipole:5.3f} e Å  {seconds[family]:5.1f}")

# %% What the density is worth
# The families that minimise an energy have one dipole: that of the density is −∂E/∂F. The density
# of a `FixedPoint` obeys a map of its own, and its energy is a separate readout that was never told
# to agree with it. Both numbers are exact for what they are; the card of a trained model states how
# far apart they are.
example, mismatch = molecules(np.array([2.8]), np.array([0.5])), {}
for family in ("EnergyFunctional", "FixedPoint"):
    both = conjugacy(models[family], example)
    mismatch[family] = float(both.dipole_mismatch)
    dipole, slope = float(both.dipole[0, 0]), float(both.conjugate_dipole[0, 0])
    print(f"{family:25s} dipole {dipole:+.6f}, −dE/dF {slope:+.6f} e Å")

# %% How it was found
# `calc.scf` is the solver's record. Small structures are solved with exact Jacobians, larger ones
# climb a ladder of methods; a density that does not converge is an error and never a number.
bond = Atoms("NaH", [(0, 0, 0), (2.8, 0, 0)])
for family in ("SplitChargeEquilibration", "EnergyFunctional", "FixedPoint"):
    calc = SCCalculator(models[family], electric_field=(0.5, 0, 0))
    calc.get_potential_energy(bond)
    print(f"{family:25s} {calc.scf.report()}")

# %% Whole charges
# Everything so far has one answer for one geometry. A charge that can sit on either of two equal
# atoms has two, and their average is not one of them. `functional="localised"` has wells at whole
# charges: the lowest minimum is returned, a warning lists all, and `charge_sites` chooses.
torch.manual_seed(0)
hydrogen = {**BACKBONE, "elements": [1]}
ion = Atoms("H2", [(0, 0, 0), (10, 0, 0)])
shared = SCCalculator(FAMILIES["EnergyFunctional"](backbone=hydrogen), charge=1)
localised = SCCalculator(
    FAMILIES["EnergyFunctional"](backbone=hydrogen, functional="localised"), charge=1
)
on_shared = shared.get_charges(ion)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    on_lowest = localised.get_charges(ion)
several = str(caught[-1].message)
ion.info["charge_sites"] = [1]
on_chosen = localised.get_charges(ion)
print(f"H…H+, convex                  {on_shared.round(3)} e")
print(f"H…H+, localised               {on_lowest.round(3)} e")
print(several)
print(f"charge_sites = [1]            {on_chosen.round(3)} e")

# %% The answer
# - Nothing answers to a field or to other atoms: `LocalCharges`, `SplitCharges`; nothing is solved.
# - The answer is in proportion: `SplitChargeEquilibration` (insulators, fields in crystals) or
#   `QEq` (metals); one linear solve.
# - It saturates: `EnergyFunctional`, one minimum and one dipole; or `FixedPoint`, where densities
#   are labels and matter more than that, or where atoms must not answer at all.
# - It sits in one of several places: `EnergyFunctional` with `functional="localised"`.
fields = np.linspace(-1.2, 1.2, 41)
pairs = grid(np.array([3.2]), fields)
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
left.plot(fields, truth(*pairs)[1], color="k", lw=2.5, alpha=0.35, label="truth")
for family, model in models.items():
    with torch.no_grad():
        charges = model(molecules(*pairs)).density.charges[::2]
    left.plot(fields, charges, lw=1.2, label=family)
left.set(xlabel="field along the bond (V/Å)", ylabel="charge of the metal at 3.2 Å (e)")
left.legend(fontsize=7)
right.barh(list(table), [dipole for _, dipole in table.values()], color="0.6")
right.invert_yaxis()
right.set(xlabel="error of the dipole, unseen molecules (e Å)")
figure.savefig("05_which_family.png", dpi=150)
