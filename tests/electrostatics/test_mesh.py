"""The mesh against exact operators, and what has to hold on a mesh whatever its accuracy."""

import math
from dataclasses import replace

import pytest
import torch

from asesc.density import GaussianBasis
from asesc.density.harmonics import n_components
from asesc.electrostatics import BOUNDARIES, CoulombOperator, boundary_for
from asesc.electrostatics.accuracy import mesh_error
from asesc.electrostatics.boundary import Open, Periodic, Slab
from asesc.electrostatics.plan import plan_mesh
from asesc.errors import InputError, SetupError
from asesc.system import System

FREE = (False, False, False)
BULK = (True, True, True)
SLABS = ((True, True, False), (True, False, True), (False, True, True))


def random_system(n_atoms: int, pbc: tuple[bool, bool, bool], *, seed: int = 0) -> System:
    """Atoms anywhere in a triclinic cell with 10 Å³ each."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.tensor([[1.0, 0.1, -0.2], [0.15, 0.8, 0.1], [0.05, 0.3, 1.25]])
    cell = (10.0 * n_atoms) ** (1 / 3) * shape.double()
    fractions = torch.rand(n_atoms, 3, dtype=torch.float64, generator=generator)
    return System(
        positions=fractions @ cell,
        numbers=torch.ones(n_atoms, dtype=torch.int64),
        cell=cell[None],
        pbc=pbc,
        batch=torch.zeros(n_atoms, dtype=torch.int64),
        charge=torch.zeros(1, dtype=torch.float64),
        electric_field=torch.zeros(1, 3, dtype=torch.float64),
    )


def multipoles(n_atoms: int, lmax: int, *, seed: int = 1) -> torch.Tensor:
    """Charged as a whole."""
    generator = torch.Generator().manual_seed(seed)
    size = (n_atoms, n_components(lmax))
    return torch.randn(size, dtype=torch.float64, generator=generator)


def widths(n_atoms: int, *values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).repeat(n_atoms)[:n_atoms]


def bind(system: System, basis: GaussianBasis, **keywords: object) -> CoulombOperator:
    return boundary_for("auto", system.pbc).bind(system, basis, **keywords)


def exact(system: System, basis: GaussianBasis) -> CoulombOperator:
    return bind(system, basis, accuracy=1e-12, backend="dense")


def gradient(operator_of, system: System, p: torch.Tensor) -> torch.Tensor:
    positions = system.positions.clone().requires_grad_()
    energy = operator_of(replace(system, positions=positions)).energy(p).sum()
    return torch.autograd.grad(energy, positions)[0]


def relative(value: torch.Tensor, reference: torch.Tensor) -> float:
    return float((value - reference).norm() / reference.norm())


@pytest.mark.parametrize("backend", ["mesh", "mesh+pairs"])
@pytest.mark.parametrize("lmax", [0, 1, 2])
@pytest.mark.parametrize("pbc", [BULK, SLABS[0], SLABS[2], FREE])
def test_forces_are_as_accurate_as_estimated(pbc, lmax, backend):
    system, p = random_system(16, pbc), multipoles(16, lmax)
    basis = GaussianBasis(lmax, widths(16, 0.55, 0.9) if "+" in backend else widths(16, 1.0, 1.3))
    reference = gradient(lambda s: exact(s, basis), system, p)
    potential = exact(system, basis).potential(p)
    for accuracy in (1e-4, 1e-6):
        operator = bind(system, basis, accuracy=accuracy, backend=backend)
        forces = gradient(
            lambda s, a=accuracy: bind(s, basis, accuracy=a, backend=backend), system, p
        )
        assert operator.report.backend == backend
        assert operator.report.error <= 1.5 * accuracy
        assert relative(forces, reference) < 2 * operator.report.error
        assert relative(operator.potential(p), potential) < operator.report.error


def test_high_accuracy():
    system, p = random_system(12, BULK), multipoles(12, 1)
    basis = GaussianBasis(1, widths(12, 1.1))
    forces = gradient(lambda s: bind(s, basis, accuracy=1e-9, backend="mesh"), system, p)
    reference = gradient(lambda s: bind(s, basis, accuracy=1e-12, backend="dense"), system, p)
    assert relative(forces, reference) < 2e-9


SHEAR = ((1.0, 0, 0), (2, 1, 0), (-2, 3, 1))
FCC, BCC = ((0.0, 1, 1), (1, 0, 1), (1, 1, 0)), ((-1.0, 1, 1), (1, -1, 1), (1, 1, -1))
MONOCLINIC = ((3.0, 0, 0), (-1.5, 2.6, 0), (1, 0, 4))


def in_cell(system: System, cell: torch.Tensor) -> System:
    fractions = system.positions @ torch.linalg.inv(system.cell[0])
    return replace(system, cell=cell[None], positions=fractions @ cell)


@pytest.mark.parametrize("edges", [(3.0, 3.0, 40.0), (24.0, 24.0, 3.0), (11.0, 11.0, 11.0)])
@pytest.mark.parametrize("pbc", [BULK, SLABS[1]])
def test_elongated_and_sheared_cells(edges, pbc):
    """The mesh lies along short vectors of the lattice, whatever the cell is written as."""
    system, p = random_system(6, pbc), multipoles(6, 1)
    straight = torch.diag(torch.tensor(edges, dtype=torch.float64))
    shear = torch.tensor(SHEAR, dtype=torch.float64)
    if pbc == SLABS[1]:
        shear[:, 1] = shear[1] = torch.tensor([0.0, 1, 0])
    system = in_cell(system, shear @ straight)
    basis = GaussianBasis(1, widths(6, 1.2))
    operator = bind(system, basis, backend="mesh")
    assert relative(operator.potential(p), exact(system, basis).potential(p)) < 1e-7
    points = bind(replace(system, cell=straight[None]), basis, backend="mesh").report.plan.shape
    assert sorted(operator.report.plan.shape) == sorted(points)


@pytest.mark.parametrize("cell", [FCC, BCC, MONOCLINIC])
def test_forces_in_skewed_cells_are_as_accurate_as_estimated(cell):
    system, p = random_system(16, BULK), multipoles(16, 1)
    shape = torch.tensor(cell, dtype=torch.float64)
    system = in_cell(system, shape * (160 / torch.det(shape).abs()) ** (1 / 3))
    basis = GaussianBasis(1, widths(16, 1.0))
    forces = gradient(lambda s: bind(s, basis, backend="mesh"), system, p)
    reference = gradient(lambda s: exact(s, basis), system, p)
    error = bind(system, basis, backend="mesh").report.error
    assert relative(forces, reference) < 2 * error < 2e-6


@pytest.mark.parametrize("pbc", SLABS)
def test_slabs_do_not_notice_their_vacuum(pbc):
    """From 10 to 100 Å, and from a cell vector that is not the normal."""
    system, p = random_system(10, pbc), multipoles(10, 1)
    axis = pbc.index(False)
    basis = GaussianBasis(1, widths(10, 1.0))
    reference = bind(system, basis, backend="mesh").energy(p)
    for vacuum in (10.0, 100.0):
        cell = system.cell.clone()
        cell[0, axis] *= 1 + vacuum / cell[0, axis].norm()
        cell[0, axis] += 0.3 * cell[0, axis - 1]
        energy = bind(replace(system, cell=cell), basis, backend="mesh").energy(p)
        torch.testing.assert_close(energy, reference, rtol=1e-12, atol=0)


@pytest.mark.parametrize("pbc", [BULK, SLABS[1], FREE])
def test_symmetry_and_energy(pbc):
    """⟨q, Jp⟩ = ⟨p, Jq⟩ to rounding even on a coarse mesh, and E = ½⟨p, Jp⟩."""
    system, p, q = random_system(30, pbc), multipoles(30, 2), multipoles(30, 2, seed=2)
    for backend in ("mesh", "mesh+pairs"):
        operator = bind(
            system, GaussianBasis(2, widths(30, 0.9, 1.2)), accuracy=1e-3, backend=backend
        )
        one, other = (q * operator.potential(p)).sum(), (p * operator.potential(q)).sum()
        assert float(one) == pytest.approx(float(other), rel=1e-12)
        half = 0.5 * (p * operator.potential(p)).sum()
        assert float(operator.energy(p)) == pytest.approx(float(half), rel=1e-12)


@pytest.mark.parametrize("sizes", [(1.0,), (1.0, 1.4)])
@pytest.mark.parametrize("cell", ["fixed", "strained"])
def test_numbers_do_not_depend_on_whether_a_graph_is_wanted(sizes, cell):
    """Shorter ways are taken where there is none, and where no second derivative follows."""
    system, p = random_system(12, BULK), multipoles(12, 1).requires_grad_()
    basis = GaussianBasis(1, widths(12, *sizes))
    positions = system.positions.clone().requires_grad_()
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=cell == "strained")
    bent = replace(system, positions=positions)
    bent = bind(bent.strained(strain) if cell == "strained" else bent, basis, backend="mesh")
    potential = bent.potential(p)
    assert potential.requires_grad
    torch.testing.assert_close(
        bind(system, basis, backend="mesh").potential(p.detach()),
        potential.detach(),
        rtol=1e-12,
        atol=1e-12,
    )
    energy = bent.energy(p).sum()
    inputs = (p, positions, strain) if cell == "strained" else (p, positions)
    once, again = (
        torch.autograd.grad(energy, inputs, create_graph=graph, retain_graph=True)
        for graph in (False, True)
    )
    for plain, with_graph in zip(once, again, strict=True):
        torch.testing.assert_close(plain, with_graph.detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("pbc", [BULK, SLABS[0], FREE])
@pytest.mark.parametrize("backend", ["mesh", "mesh+pairs"])
@pytest.mark.parametrize("cell", ["fixed", "strained"])
def test_second_derivatives(pbc, backend, cell):
    """Of the potential, through which families attach derivatives, and of the energy."""
    if cell == "strained" and not any(pbc):
        pytest.skip("nothing to strain")
    system, basis = random_system(2, pbc), GaussianBasis(1, widths(2, 1.0, 1.4))
    accuracy = 1e-3
    plan = bind(system, basis, backend=backend, accuracy=accuracy).report.plan

    def of(which: str):
        def function(p, positions, strain):
            symmetric = 0.5 * (strain + strain.transpose(1, 2))
            moved = replace(system, positions=positions).strained(symmetric)
            operator = bind(moved, basis, backend=backend, accuracy=accuracy, plan=plan)
            return getattr(operator, which)(p)

        return function

    arguments = (
        multipoles(2, 1).requires_grad_(),
        system.positions.clone().requires_grad_(),
        torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=cell == "strained"),
    )
    for which in ("potential", "energy"):
        assert torch.autograd.gradcheck(of(which), arguments, fast_mode=True, atol=1e-6)
        assert torch.autograd.gradgradcheck(of(which), arguments, fast_mode=True, atol=1e-6)


@pytest.mark.parametrize("pbc", [BULK, SLABS[0], FREE])
def test_translation_by_a_tenth_of_a_micrometre(pbc):
    system, p = random_system(20, pbc), multipoles(20, 1)
    basis = GaussianBasis(1, widths(20, 1.0))
    reference = bind(system, basis, backend="mesh").energy(p)
    moved = replace(system, positions=system.positions + 1e3)
    energy = bind(moved, basis, backend="mesh").energy(p)
    torch.testing.assert_close(energy, reference, rtol=1e-7, atol=0)


def test_forces_add_up_to_zero_within_the_accuracy():
    system, p = random_system(40, BULK), multipoles(40, 1)
    basis = GaussianBasis(1, widths(40, 1.0))
    forces = gradient(lambda s: bind(s, basis, backend="mesh"), system, p)
    assert float(forces.sum(0).norm()) < 1e-6 * float(forces.norm()) * 40**0.5


@pytest.mark.parametrize("pbc", [BULK, SLABS[0], FREE])
def test_batches(pbc):
    """Structures of different size share a mesh but not their fields."""
    frames = [random_system(n, pbc, seed=n) for n in (3, 8)]
    batch = System(
        positions=torch.cat([f.positions for f in frames]),
        numbers=torch.cat([f.numbers for f in frames]),
        cell=torch.cat([f.cell for f in frames]),
        pbc=pbc,
        batch=torch.tensor([0] * 3 + [1] * 8),
        charge=torch.zeros(2, dtype=torch.float64),
        electric_field=torch.zeros(2, 3, dtype=torch.float64),
    )
    basis, p = GaussianBasis(1, widths(11, 0.9, 1.2)), multipoles(11, 1)
    together = bind(batch, basis, backend="mesh").potential(p)
    for frame, some in zip(frames, (slice(0, 3), slice(3, 11)), strict=True):
        alone = exact(frame, GaussianBasis(1, basis.widths[some])).potential(p[some])
        assert relative(together[some], alone) < 1e-6


@pytest.mark.parametrize("name", BOUNDARIES)
def test_wider_receivers(name):
    boundary = BOUNDARIES[name]()
    pbc = FREE if isinstance(boundary, Open) else SLABS[0] if isinstance(boundary, Slab) else BULK
    system, p = random_system(5, pbc), multipoles(5, 1)
    basis = GaussianBasis(1, widths(5, 0.9, 1.2))
    factors = (1.0, 2.5)
    seen = boundary.bind(system, basis, backend="dense").receivers(factors).potential(p)
    for backend in ("mesh", "mesh+pairs"):
        operator = boundary.bind(system, basis, backend=backend)
        assert relative(operator.receivers(factors).potential(p), seen) < 3e-6


def test_a_kept_plan_makes_the_energy_smooth_in_the_cell():
    """A plan made for every cell jumps where the number of points changes."""
    system, p = random_system(12, BULK), multipoles(12, 1)
    basis = GaussianBasis(1, widths(12, 1.0))
    plan = bind(system, basis, backend="mesh", accuracy=1e-3).report.plan

    def energies(kept):
        values, meshes = [], set()
        for stretch in torch.linspace(0, 0.2, 41, dtype=torch.float64):
            strain = stretch * torch.eye(3, dtype=torch.float64)[None]
            operator = Periodic().bind(
                system.strained(strain), basis, backend="mesh", accuracy=1e-3, plan=kept
            )
            values.append(operator.energy(p))
            meshes.add(operator.report.plan.shape)
        return torch.cat(values), meshes

    def roughness(values):
        return float(values.diff(n=4).abs().max())

    kept, one_mesh = energies(plan)
    fresh, many = energies(None)
    assert len(one_mesh) == 1 < len(many)
    assert roughness(kept) < 0.1 * roughness(fresh)


def test_plans_that_do_not_fit_are_refused():
    system, basis = random_system(8, FREE), GaussianBasis(0, widths(8, 1.0))
    plan = bind(system, basis, backend="mesh").report.plan
    bind(replace(system, positions=1.001 * system.positions), basis, backend="mesh", plan=plan)
    wide = replace(system, positions=2 * system.positions)
    with pytest.raises(InputError, match=r"axis \d the atoms extend over .* too short"):
        bind(wide, basis, backend="mesh", plan=plan)
    with pytest.raises(InputError, match=r"Gaussians of 1 Å, but there are 1 with 1\.1 Å"):
        bind(system, GaussianBasis(0, widths(8, 1.1)), backend="mesh", plan=plan)
    with pytest.raises(InputError, match="another boundary"):
        bind(replace(system, pbc=BULK), basis, backend="mesh", plan=plan)


def test_huge_empty_cells():
    """A box of 4 779 Å is refused in words before its mesh is made; open, it costs nothing."""
    system, basis = random_system(8, BULK), GaussianBasis(0, widths(8, 1.0))
    huge = replace(system, cell=4779 * torch.eye(3, dtype=torch.float64)[None])
    for backend in ("auto", "mesh", "direct-k"):
        with pytest.raises(SetupError, match=r"about \d+ GB where .* atoms.pbc = False"):
            bind(huge, basis, backend=backend)
    assert bind(replace(huge, pbc=FREE), basis).report.backend == "pairs"
    far = replace(random_system(500, FREE), cell=system.cell)
    far.positions[250:] += 1000
    assert bind(far, GaussianBasis(0, widths(500, 1.0))).report.backend == "pairs"


def test_small_motions_along_open_axes_keep_the_mesh():
    system, basis = random_system(8, SLABS[0]), GaussianBasis(0, widths(8, 1.0))
    shapes = set()
    for shift in torch.linspace(0, 0.05, 6, dtype=torch.float64):
        positions = system.positions.clone()
        positions[positions[:, 2].argmax(), 2] += shift
        moved = replace(system, positions=positions)
        plan = bind(moved, basis, backend="mesh").report.plan
        shapes.add((plan.shape, plan.lengths))
    assert len(shapes) <= 2


def test_the_graph_does_not_hold_the_stencils():
    """p³ weights of 8 byte and their addresses would be 10 kB per atom and more."""
    system, p = random_system(200, BULK), multipoles(200, 1)
    basis = GaussianBasis(1, widths(200, 1.5))
    positions = system.positions.clone().requires_grad_()
    sizes = {}

    def pack(tensor):
        sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        bind(replace(system, positions=positions), basis, backend="mesh").energy(p)
    assert sum(sizes.values()) / 200 < 2000


def test_error_estimate_falls_with_order_and_spacing():
    def error(ratio, order, lmax=1):
        return mesh_error(ratio, order=order, width=1.0, lmax=lmax, size=15.0)

    for order in (4, 6, 8, 10):
        assert error(0.5, order + 2) < 0.1 * error(0.5, order)
        # Forces on dipoles take two derivatives of the spline, hence order p − 2 for fine meshes.
        observed = math.log2(error(0.2, order) / error(0.1, order))
        assert observed == pytest.approx(order - 2, abs=0.5)
    assert error(0.5, 8, 0) < error(0.5, 8, 1) < error(0.5, 8, 2)


def test_plans_are_cheapest_for_what_they_are_asked():
    system = random_system(200, BULK)
    kernel = Periodic().kernel(system)
    loose, tight = (
        plan_mesh(system, kernel, width_range=(1.5, 1.5), lmax=1, accuracy=accuracy)
        for accuracy in (1e-4, 1e-8)
    )
    assert loose.error < 1e-4 and tight.error < 1e-8
    assert loose.order < tight.order
