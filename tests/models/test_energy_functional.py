"""Energy functionals: one convex minimum, exact derivatives, and the quadratic limit."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from builders import NUMBERS, random_model
from functional_models import PlacedCharge, quadratic_twin

from asesc.electrostatics import boundary_for
from asesc.errors import InputError, SCFError
from asesc.models import EnergyFunctional, Problem
from asesc.models.energy_functional import _ramp, find_minimum, state_at
from asesc.models.energy_surface import EnergySurface
from asesc.models.moments import coefficients_of
from asesc.response import energy_and_forces, polarizability
from asesc.response.polarizability import field_derivative
from asesc.solvers import SCFOptions
from asesc.testing import check_model, example_system
from asesc.testing.structures import ALL_PBC
from asesc.testing.torture import hard_input

FREE, BULK, SHEET = (False,) * 3, (True,) * 3, (True, True, False)


def problem_of(model, system, **options):
    coulomb = boundary_for("auto", system.pbc).bind(system, model.basis(system))
    return Problem(system, model.backbone(system), coulomb, SCFOptions(**options))


@cache
def surface_of(pbc, seed=0, charge=0.0) -> EnergySurface:
    """Of a random model in a field, without graph."""
    system = example_system(NUMBERS, pbc)
    field = torch.tensor([[0.2, -0.1, 0.3]], dtype=torch.float64)
    system = replace(system, charge=system.charge + charge, electric_field=field)
    model = random_model("EnergyFunctional", seed=seed)
    return model.surface(problem_of(model, system)).frozen()


def random_drives(surface, seed, scale=3.0):
    shape = surface.response.electronegativity.shape
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


class TestConvexity:
    """E is convex in all its unknowns, transfers and dipoles, wherever they come from."""

    @staticmethod
    def reverse_edges(surface) -> torch.Tensor:
        """Index of j → i for every edge i → j."""
        edges = surface.problem.features.edges
        keys = [
            (int(i), int(j), *map(int, s))
            for i, j, s in zip(edges.source, edges.target, edges.shifts, strict=True)
        ]
        where = {key: n for n, key in enumerate(keys)}
        return torch.tensor([where[j, i, -a, -b, -c] for i, j, a, b, c in keys])

    @staticmethod
    def flow_of(surface, drive, force):
        """Any antisymmetric transfers and any dipoles as a flow."""
        flow = surface.flow(torch.zeros_like(surface.response.electronegativity))
        transfers = -surface.response.conductance * surface.edges.response(drive)
        dipoles = -torch.einsum("nab,nb->na", surface.response.polarizability, force)
        source = surface.problem.features.edges.source
        charges = surface.response.formal.index_add(0, source, transfers)
        p = coefficients_of(charges, dipoles, surface.problem.basis.lmax)
        return replace(
            flow, coefficients=p, transfers=transfers, drive=drive, dipoles=dipoles, force=force
        )

    @staticmethod
    def drive_for(surface, target):
        """Δ with φ(Δ) = target, by Newton steps that φ' ≥ 1 keeps short, safeguarded."""
        low, high = -target.abs() - 1, target.abs() + 1
        for _ in range(80):
            middle = 0.5 * (low + high)
            below = surface.edges.response(middle) < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    @pytest.mark.parametrize("pbc", [FREE, BULK, SHEET])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_midpoints(self, pbc, seed):
        surface = surface_of(pbc, seed, charge=1.0)
        reverse = self.reverse_edges(surface)
        generator = torch.Generator().manual_seed(seed)
        for scale in (0.1, 1.0, 10.0):
            ends = []
            for _ in range(2):
                drive = scale * torch.randn(len(reverse), generator=generator).double()
                force = scale * torch.randn(len(NUMBERS), 3, generator=generator).double()
                ends.append((0.5 * (drive - drive[reverse]), force))
            (drive_1, force_1), (drive_2, force_2) = ends
            response = surface.edges.response
            middle = self.drive_for(surface, 0.5 * (response(drive_1) + response(drive_2)))
            flows = [
                self.flow_of(surface, drive, force)
                for drive, force in (*ends, (middle, 0.5 * (force_1 + force_2)))
            ]
            one, two, between = (float(surface.energy_of(flow)) for flow in flows)
            mean = 0.5 * (flows[0].transfers + flows[1].transfers)
            torch.testing.assert_close(flows[2].transfers, mean, atol=1e-12, rtol=0)
            assert between < 0.5 * (one + two)  # strictly

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_curvature_is_never_negative_on_the_node_potentials(self, seed):
        for pbc in (FREE, BULK, SHEET):
            surface = surface_of(pbc, seed)
            for n in range(3):
                matrix = surface.hessian(random_drives(surface, n))
                values = torch.linalg.eigvalsh(matrix)
                assert float(values.min()) > -1e-12 * float(values.max())

    @pytest.mark.parametrize("pbc", [FREE, BULK])
    def test_one_minimum_whatever_the_start(self, pbc):
        surface = surface_of(pbc)
        densities = [
            surface.flow(find_minimum(surface, random_drives(surface, n, 20.0))[0]).coefficients
            for n in range(4)
        ]
        for other in densities[1:]:
            torch.testing.assert_close(other, densities[0], atol=2e-8, rtol=0)


@pytest.mark.parametrize("pbc", [FREE, BULK])
def test_gradient_hessian_and_jacobian_of_the_surface(pbc):
    """∂E/∂w = S(w − u) anywhere; its derivative S + SKS where w = u; r' = 1 + KS."""
    surface = surface_of(pbc)
    w = random_drives(surface, 0).requires_grad_()
    (gradient,) = torch.autograd.grad(surface.energy(w).sum(), w)
    s, _ = surface._linear_response(w.detach())
    expected = (s[0] @ surface.residual(w.detach()).flatten()).reshape(w.shape)
    torch.testing.assert_close(gradient, expected, atol=1e-11, rtol=1e-11)
    jacobian = torch.autograd.functional.jacobian(surface.residual, w.detach())
    torch.testing.assert_close(
        surface.jacobian(w)[0], jacobian.reshape(w.numel(), -1), atol=1e-10, rtol=1e-10
    )
    at, _ = find_minimum(surface, w.detach())
    full = torch.autograd.functional.hessian(lambda x: surface.energy(x).sum(), at)
    torch.testing.assert_close(
        surface.hessian(at)[0], full.reshape(w.numel(), -1), atol=1e-9, rtol=1e-9
    )


@pytest.mark.parametrize("pbc", [FREE, BULK, SHEET])
@pytest.mark.parametrize("charge", [0.0, 1.0])
def test_without_networks_it_is_split_charge_equilibration(pbc, charge):
    quadratic = random_model("SplitChargeEquilibration")
    twin = quadratic_twin(quadratic)
    system = example_system(NUMBERS, pbc)
    field = torch.tensor([[0.0, 0.0, 0.4]], dtype=torch.float64)
    if charge == 0 or pbc == FREE:
        system = replace(system, electric_field=field)
    system = replace(system, charge=system.charge + charge)
    one, two = (energy_and_forces(m, system, stress=pbc != FREE) for m in (quadratic, twin))
    close = {"atol": 1e-8, "rtol": 0}
    torch.testing.assert_close(two.prediction.energy, one.prediction.energy, **close)
    torch.testing.assert_close(two.forces, one.forces, **close)
    torch.testing.assert_close(two.prediction.dipole, one.prediction.dipole, **close)
    for part in ("charges", "dipoles"):
        first, second = (getattr(r.prediction.density, part) for r in (one, two))
        torch.testing.assert_close(second, first, **close)
    level = one.prediction.chemical_potential
    if level is not None:
        torch.testing.assert_close(two.prediction.chemical_potential, level, **close)
    if pbc != FREE:
        torch.testing.assert_close(two.stress, one.stress, **close)
    torch.testing.assert_close(
        polarizability(twin, system), polarizability(quadratic, system), **close
    )


def test_the_networks_matter():
    """Else every other test would be one of split-charge equilibration."""
    system = example_system(NUMBERS, BULK)
    model = random_model("EnergyFunctional")
    quadratic = random_model("SplitChargeEquilibration")
    weights = {k: v for k, v in model.weights().items() if k in quadratic.weights()}
    stripped = type(quadratic)(**quadratic.hyperparameters)
    stripped.load_weights(weights)
    with torch.no_grad():
        charges = [m(system).density.charges for m in (model, stripped)]
        assert float((charges[0] - charges[1]).abs().max()) > 0.01
    strong = replace(system, electric_field=torch.tensor([[1.0, 0.0, 0.0]]).double())
    ratio = polarizability(model, strong) / polarizability(model, system)
    assert float((ratio - 1).abs().max()) > 0.01  # not linear in the field


@pytest.mark.parametrize("pbc", [FREE, BULK])
def test_forces_need_no_derivative_of_the_minimum(pbc):
    """Envelope theorem: dE/dR = ∂E/∂R at fixed w, because ∂E/∂w = 0."""
    model = random_model("EnergyFunctional")
    system = example_system(NUMBERS, pbc)
    exact = energy_and_forces(model, system).forces
    positions = system.positions.clone().requires_grad_()
    moved = replace(system, positions=positions)
    problem = problem_of(model, moved)
    surface = model.surface(problem)
    w, _ = find_minimum(surface.frozen(), torch.zeros_like(surface.response.electronegativity))
    torch.testing.assert_close(forces_at(surface, w, positions), exact, atol=1e-10, rtol=0)


def forces_at(surface, w, positions):
    """−∂E/∂R at fixed node potentials."""
    energy = surface.problem.features.energies.sum() + surface.energy(w).sum()
    return -torch.autograd.grad(energy, positions, retain_graph=True)[0]


def test_errors_of_energy_and_forces_scale_as_the_first_and_second_power_of_the_density_error():
    """E(w* + δ) − E* = ½ δ·(S + SKS)·δ, and the force at fixed w is off by O(δ)."""
    model = random_model("EnergyFunctional")
    system = example_system(NUMBERS, FREE)
    positions = system.positions.clone().requires_grad_()
    surface = model.surface(problem_of(model, replace(system, positions=positions)))
    frozen = surface.frozen()
    w, _ = find_minimum(frozen, torch.zeros_like(surface.response.electronegativity))
    direction = random_drives(frozen, 3, scale=1.0)
    exact, force = float(frozen.energy(w)), forces_at(surface, w, positions)
    energies, forces = [], []
    for size in (1e-2, 1e-3, 1e-4):
        energies.append(float(frozen.energy(w + size * direction) - exact))
        error = forces_at(surface, w + size * direction, positions) - force
        forces.append(float(error.abs().max()))
    curvature = frozen.hessian(w)[0]
    expected = 0.5 * direction.flatten() @ curvature @ direction.flatten()
    assert energies[2] == pytest.approx(1e-8 * float(expected), rel=1e-2)
    assert energies[0] / energies[1] == pytest.approx(100, rel=0.1)
    assert forces[0] / forces[1] == pytest.approx(10, rel=0.1)
    assert forces[1] / forces[2] == pytest.approx(10, rel=0.1)


def test_a_loose_tolerance_still_gives_exact_forces():
    """The attached Newton corrections finish what the solver left."""
    model, system = random_model("EnergyFunctional"), example_system(NUMBERS, FREE)
    positions = system.positions.clone().requires_grad_()
    moved = replace(system, positions=positions)

    def forces(tolerance):
        prediction = model(moved, scf=SCFOptions(tolerance=tolerance))
        return torch.autograd.grad(prediction.energy.sum(), positions)[0], prediction.solution

    (tight, _), (loose, solution) = forces(1e-11), forces(1e-3)
    assert solution.residual < 1e-3
    torch.testing.assert_close(loose, tight, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pbc", ALL_PBC[:3])
def test_contract_of_the_localised_functional(pbc):
    """Where the charge is told to be, everything is as smooth as in the convex functional."""
    model = PlacedCharge(random_model("EnergyFunctional", functional="localised", seed=2))
    report = check_model(model, numbers=NUMBERS, boundaries=[pbc])
    assert "dE/dQ" in str(report)


def test_unknown_functionals_are_refused():
    keywords = random_model("EnergyFunctional").hyperparameters
    with pytest.raises(InputError, match="Did you mean 'localised'"):
        EnergyFunctional(**{**keywords, "functional": "localized"})


def test_the_state_of_a_minimum_is_what_the_model_returns():
    surface = surface_of(FREE)
    w, solution = find_minimum(surface, random_drives(surface, 0))
    state = state_at(surface, w, solution)
    system = surface.problem.system
    coulomb = surface.problem.coulomb.energy(state.coefficients)
    field = -(system.electric_field * state.dipole).sum(-1)
    total = state.internal_energy + coulomb + field
    torch.testing.assert_close(total, surface.energy(w))


def own_model():
    """A model that the test may change."""
    shared = random_model("EnergyFunctional")
    model = EnergyFunctional(**shared.hyperparameters)
    model.load_weights(shared.weights())
    return model


def loss_of(model):
    """Force errors and the polarisability, as in training: first derivatives of the minimum."""
    system = example_system((8, 1, 1), FREE)
    field = torch.full((1, 3), 0.1, dtype=torch.float64, requires_grad=True)
    system = replace(system, electric_field=field, charge=system.charge + 1)
    result = energy_and_forces(model, system, create_graph=True)
    alpha = field_derivative(result.prediction, field, create_graph=True)
    return (result.forces**2).sum() + (alpha**2).sum()


def test_gradient_of_a_force_loss():
    """∂/∂θ of a loss on ∂E/∂R and ∂μ/∂E needs two derivatives of the minimum: attached ones,
    against finite differences along a random direction of all parameters of the functional.
    """
    model = own_model()
    parameters = [p for name, p in model.named_parameters() if "_head." in name]
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=generator).double() for p in parameters]
    gradients = torch.autograd.grad(loss_of(model), parameters, materialize_grads=True)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    step, values = 1e-4, []
    for shift in (step, -2 * step):
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter.add_(shift * d)
        values.append(loss_of(model).item())
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)
    assert abs(slope) > 1e-3


def test_a_student_learns_its_teacher():
    """Forces of a functional with other networks are learned by the networks alone."""
    teacher, student = (own_model() for _ in range(2))
    heads = [p for name, p in student.named_parameters() if "functional" in name]
    with torch.no_grad():
        for parameter in heads:
            parameter.mul_(0.7)
    system = example_system((8, 1, 1, 8), BULK)
    target = energy_and_forces(teacher, system).forces.detach()
    optimiser = torch.optim.Adam(heads, lr=0.03)
    losses = []
    for _ in range(16):
        forces = energy_and_forces(student, system, create_graph=True).forces
        loss = ((forces - target) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


def test_the_ramp_of_the_ridges_ends_at_the_same_minimum():
    """From the quadratic functional to the full one; a hard input that needs it gets there."""
    surface = surface_of(BULK)
    start = torch.zeros_like(surface.response.electronegativity)
    with torch.no_grad():
        direct, _ = find_minimum(surface, start)
        followed, solution = _ramp(surface, SCFError("not found", history=[1.0, 2.0]))
        densities = [surface.flow(w).coefficients for w in (direct, followed)]
    torch.testing.assert_close(*densities, atol=1e-8, rtol=0)
    assert [stage.name for stage in solution.stages] == ["ramp of the ridges"]
    _, system = hard_input(NUMBERS, 6376)
    with torch.no_grad():
        hard = random_model("EnergyFunctional", functional="localised")(system)
    assert "ramp of the ridges" in [stage.name for stage in hard.solution.stages]
    assert hard.solution.converged
