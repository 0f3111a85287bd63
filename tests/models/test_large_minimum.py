"""Energy functionals of structures too large for matrices: the same minimum from products."""

from dataclasses import replace

import pytest
import torch
from ase import Atoms
from ase.build import molecule
from builders import NUMBERS, random_model
from watched_water import gentle_model

from asesc.electrostatics import boundary_for
from asesc.errors import SCFError
from asesc.models import Problem
from asesc.models.energy_functional import _descend
from asesc.solvers import SCFOptions
from asesc.system import System, joined
from asesc.testing import example_system

FREE, SHEET = (False,) * 3, (True, True, False)


def disordered_water(copies: tuple[int, int, int], *, rattle: float, seed: int) -> Atoms:
    """A lattice of molecules, rattled by ``rattle`` (Å)."""
    atoms = molecule("H2O")
    atoms.set_cell([3.2, 3.1, 3.0])
    atoms.pbc = True
    atoms *= copies
    atoms.rattle(rattle, seed=seed)
    return atoms


@pytest.mark.parametrize("pbc", [FREE, SHEET])
def test_products_find_the_same_minimum_as_matrices(pbc):
    """Beyond the dense limit: Newton steps, minimum and derivatives by response solves."""
    model, system = random_model("EnergyFunctional"), example_system(NUMBERS, pbc)
    positions = system.positions.clone().requires_grad_()
    moved = replace(system, positions=positions, charge=system.charge + 1)
    results = []
    for limit in (1500, 0):
        prediction = model(moved, scf=SCFOptions(dense_limit=limit))
        level = prediction.chemical_potential.sum()  # whose derivative drives a net charge
        known = prediction.energy.sum() + prediction.dipole.sum() + level
        (slope,) = torch.autograd.grad(known, positions)
        results.append((prediction.energy.detach(), prediction.density.coefficients, slope))
    for dense, matrix_free in zip(*results, strict=True):
        torch.testing.assert_close(matrix_free, dense, atol=1e-7, rtol=0)


def test_products_do_not_grow_with_the_structure():
    """Long waves cost nothing extra: 12 and 324 disordered molecules of water."""
    products = []
    for copies in ((3, 2, 2), (9, 6, 6)):
        atoms = disordered_water(copies, rattle=0.1, seed=1)
        options = SCFOptions(dense_limit=0, tolerance=1e-6)
        solution = gentle_model("EnergyFunctional")(System.from_atoms(atoms), scf=options).solution
        assert solution.method == "response Newton"
        products.append(solution.stages[0].products)
    assert 5 < products[1] <= 1.5 * products[0]  # the edge is three times as long


def sharpened(surface):
    """Ridges three times as sharp and thirty times as strong."""
    ridges = [surface.atoms.ridges, surface.edges.forward, surface.edges.backward]
    atoms, forward, backward = (
        replace(r, slopes=3 * r.slopes, amplitude=10 * r.amplitude) for r in ridges
    )
    edges = replace(surface.edges, forward=forward, backward=backward)
    return replace(surface, atoms=replace(surface.atoms, ridges=atoms), edges=edges)


def test_rough_steps_become_accurate_where_they_lead_nowhere():
    """Sharp bends: with rough steps alone the search by products ends with an error, and where
    they become accurate only after one that leads nowhere, it takes twice as long."""
    atoms = disordered_water((2, 2, 1), rattle=0.15, seed=0)
    system = System.from_atoms(atoms, charge=1.0)
    model, energies = random_model("EnergyFunctional"), []
    for limit in (1500, 0):
        coulomb = boundary_for("auto", system.pbc).bind(system, model.basis(system))
        options = SCFOptions(dense_limit=limit)
        problem = Problem(system, model.backbone(system), coulomb, options)
        surface = sharpened(model.surface(problem).frozen())
        w, solution = _descend(surface, torch.zeros_like(surface.response.electronegativity))
        energies.append(float(surface.energy(w)))
    assert energies[1] == pytest.approx(energies[0], abs=1e-8)
    assert solution.method == "response Newton"
    assert solution.iterations < 600


def test_structures_of_a_batch_are_searched_side_by_side():
    """One that is almost solved beside one that is not, without charges and with."""
    calm, wild = (example_system(NUMBERS, FREE, seed=seed) for seed in range(2))
    options = SCFOptions(dense_limit=0, tolerance=1e-9)
    for lmax in (0, 1):
        model = random_model("EnergyFunctional", lmax=lmax)
        alone = [model(system, scf=options).density.coefficients for system in (calm, wild)]
        start = torch.cat([alone[0], torch.zeros_like(alone[1])]).detach()
        both = joined([calm, replace(wild, charge=wild.charge + 1)])
        charged = model(both.split()[1], scf=options).density.coefficients
        together = model(both, scf=options, start=start).density.coefficients
        expected = torch.cat([alone[0], charged])
        torch.testing.assert_close(together, expected, atol=1e-7, rtol=0)


def test_a_search_that_may_not_go_on_says_so():
    options = SCFOptions(dense_limit=0, max_maps=6)
    with pytest.raises(SCFError, match=r"after \d+ energies and \d+ products"):
        random_model("EnergyFunctional")(example_system(NUMBERS, FREE), scf=options)
