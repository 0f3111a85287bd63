"""What an energy functional must do: chains, metals, dissociation, localised charges."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from builders import NUMBERS, random_model
from functional_models import uniform_model
from scipy.optimize import brentq

from asesc.electrostatics.field import along_open_axes
from asesc.electrostatics.gaussian import pair_interaction
from asesc.errors import InputError, SeveralMinimaWarning
from asesc.models import energy_functional
from asesc.models.readouts import edge_envelope
from asesc.response import polarizability
from asesc.solvers import SCFOptions
from asesc.system import System
from asesc.testing.torture import hard_input
from asesc.units import COULOMB

SPACING = 2.5  # Å; second neighbours are beyond the cutoff of the test models


def chain(n: int) -> System:
    return System.from_atoms(Atoms(f"H{n}", positions=[[SPACING * i, 0, 0] for i in range(n)]))


def in_field(system: System, *field: float) -> System:
    return replace(system, electric_field=torch.tensor([field], dtype=torch.float64))


class TestChain:
    """H_N, 2.5 Å apart, g = 0.1 e/V, no atomic polarisability.

    Inside a long chain in a field E the atoms are neutral by symmetry, so that all u_i are equal
    and every bond is driven by E·a alone: it carries t = −g φ(Ea), and each further atom adds
    g φ(Ea) a to the dipole. The ends see each other only through 1/r and add a constant.
    """

    model = staticmethod(lambda: uniform_model(conductance=0.1, bend=2.0))

    @torch.no_grad()
    def per_atom(self, field: float) -> float:
        """g φ(Ea) a."""
        model, pair = self.model(), chain(2)
        features = model.backbone(pair)
        edges = model.edge_functional(features)
        conductance = 0.1 * edge_envelope(features, model.cutoff)
        drive = torch.full((2,), field * SPACING, dtype=torch.float64)
        return float((conductance * edges.response(drive))[0]) * SPACING

    def test_polarisability_grows_like_the_number_of_atoms(self):
        model, sizes = self.model(), (8, 16, 32, 64)
        alphas = np.array([float(polarizability(model, chain(n))[0, 0, 0]) for n in sizes])
        exponents = np.diff(np.log2(alphas))
        assert exponents[-1] == pytest.approx(1, abs=0.05)
        slope = (alphas[-1] - alphas[-2]) / 32
        assert slope == pytest.approx(self.per_atom(1e-4) / 1e-4, rel=1e-3)

    @pytest.mark.parametrize("field", [0.5, 1.5])
    def test_and_so_does_the_dipole_in_fields_that_saturate_it(self, field):
        model = self.model()
        with torch.no_grad():
            dipoles = [float(model(in_field(chain(n), field, 0, 0)).dipole[0, 0]) for n in (24, 48)]
        expected = self.per_atom(field)
        assert (dipoles[1] - dipoles[0]) / 24 == pytest.approx(expected, rel=1e-3)
        linear = self.per_atom(1e-4) / 1e-4
        assert expected / field == pytest.approx(linear, rel=0.5)
        assert abs(expected / field / linear - 1) > 0.02  # the ridges are felt


class TestMetalSlab:
    """Square layers of H, 2 Å apart, joined by edges of large conductance."""

    @staticmethod
    def slab(layers: int, field: float) -> System:
        a = 2.0
        atoms = Atoms(
            f"H{layers}",
            positions=[[0, 0, a * i] for i in range(layers)],
            cell=[a, a, a * layers + 10],
            pbc=(True, True, False),
        )
        return in_field(System.from_atoms(atoms), 0, 0, field)

    @pytest.mark.parametrize("layers", [8, 12, 24])
    def test_the_inside_is_flat(self, layers):
        """In a metal ∂E/∂q is the same everywhere; inside, q = 0, so that the potential is flat.

        With conductance g it drops by t/g per layer, t ≤ 0.01 e: 1e-6 V here.
        """
        model = uniform_model(conductance=1e4, hardness=0.5, width=1.5)
        system = self.slab(layers, 0.1)
        with torch.no_grad():
            prediction = model(system)
        potential = prediction.potential[:, 0] - 0.1 * system.positions[:, 2]
        inside = potential[3:-3]
        # The bare field drops by 0.1 V/Å × 2 Å per layer.
        assert float(inside.max() - inside.min()) < 1e-3
        assert prediction.solution.iterations <= 10

    def test_its_dipole_grows_like_its_thickness(self):
        """μ = A E (L + 2δ)/4πk_e with the same δ for every thickness."""
        model = uniform_model(conductance=1e4, hardness=0.5, width=1.5)
        sizes = (12, 18, 24)
        with torch.no_grad():
            dipoles = [float(model(self.slab(n, 0.1)).dipole[0, 2]) for n in sizes]
        slopes = np.diff(dipoles) / np.diff(sizes)
        assert slopes[0] == pytest.approx(slopes[1], rel=1e-4)
        assert slopes[1] == pytest.approx(4.0 * 0.1 * 2.0 / (4 * np.pi * COULOMB), rel=1e-4)


def fragments(distance: float) -> Atoms:
    silica = Atoms("SiO2", positions=[[0, 0, 0], [1.6, 0, 0], [-1.6, 0.3, 0]])
    water = Atoms("OH2", positions=np.array([[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0]]))
    water.translate([distance, 0, 0])
    return silica + water


def charge_of_silica(model, *, charge=0.0, sites=None, distance=1000.0) -> float:
    system = System.from_atoms(fragments(distance), charge=charge)
    if sites is not None:
        weights = torch.zeros(6, dtype=torch.float64)
        weights[sites] = 1
        system = replace(system, charge_sites=weights)
    with torch.no_grad():
        return float(model(system).density.charges[:3].sum())


def test_dissociation_of_a_neutral_pair():
    """No conductance across the gap, hence exactly the charge that was given; QEq leaks."""
    for functional in ("convex", "localised"):
        model = random_model("EnergyFunctional", functional=functional)
        assert abs(charge_of_silica(model)) < 1e-12
    assert abs(charge_of_silica(random_model("QEq"))) > 0.02


def test_dissociation_of_an_ion():
    """One fragment takes all of it where charge is placed in units; shares are fractional."""
    localised = random_model("EnergyFunctional", functional="localised")
    with pytest.warns(SeveralMinimaWarning, match="minima"):
        lowest = charge_of_silica(localised, charge=1.0)
    assert min(abs(lowest), abs(lowest - 1)) < 1e-12
    assert charge_of_silica(localised, charge=1.0, sites=[0]) == pytest.approx(1, abs=1e-12)
    assert charge_of_silica(localised, charge=1.0, sites=[3]) == pytest.approx(0, abs=1e-12)
    assert charge_of_silica(localised, charge=2.0, sites=[0, 3]) == pytest.approx(1, abs=1e-12)
    convex = charge_of_silica(random_model("EnergyFunctional"), charge=1.0)
    assert 0.05 < convex < 0.95


class TestDimer:
    """H2+ at 2.5 Å, within the cutoff, the charge on the first atom, no ridges, no dipoles.

    With t moved to the second atom, κ = η + J₁₁ − J₁₂ and wells of height U,

        E(t) = t²/2g + ½κ[(1 − t)² + t²] + 2U sin²(πt) + const,
        dE/dt = t/g − κ(1 − 2t) + 2πU sin(2πt).

    Without wells t = κ/(1/g + 2κ): half the charge in a good conductor. Deep wells hold it back,
    t ≈ κ/(1/g + 2κ + 4π²U).
    """

    conductance, hardness, width = 5.0, 2.0, 1.0

    def model(self, well):
        return uniform_model(
            "localised",
            conductance=self.conductance,
            hardness=self.hardness,
            width=self.width,
            well=well,
            quadratic=True,
        )

    def slope(self, t, well, model):
        """dE/dt of the docstring."""
        separation = torch.tensor([[0.0, 0, 0], [SPACING, 0, 0]], dtype=torch.float64)
        width2 = torch.full((2,), 2 * self.width**2, dtype=torch.float64)
        own, cross = pair_interaction(separation, width2, 0)[:, 0, 0].tolist()
        kappa = self.hardness + own - cross
        decay = float(edge_envelope(model.backbone(chain(2)), model.cutoff)[0])
        wells = 2 * np.pi * well * np.sin(2 * np.pi * t)
        return t / (self.conductance * decay) - kappa * (1 - 2 * t) + wells

    def solve(self, well, **options):
        model = self.model(well)
        sites = torch.tensor([1.0, 0.0], dtype=torch.float64)
        system = replace(chain(2), charge=torch.ones(1).double(), charge_sites=sites)
        with torch.no_grad():
            return model, model(system, **options)

    @pytest.mark.parametrize("well", [0.0, 0.3, 3.0])
    def test_transferred_charge(self, well):
        model, prediction = self.solve(well)
        transferred = float(prediction.density.charges[1])
        root = brentq(self.slope, -0.2, 0.25 if well > 1 else 0.6, args=(well, model), xtol=1e-14)
        assert transferred == pytest.approx(root, abs=1e-5)  # dipoles of 1e-5 e Å²/V remain
        assert (transferred < 0.1) == (well > 1)

    def test_both_minima_are_found_and_listed(self):
        model = self.model(3.0)
        system = replace(chain(2), charge=torch.ones(1).double())
        with torch.no_grad():
            with pytest.warns(SeveralMinimaWarning) as record:
                prediction = model(system)
            message = str(record[0].message)
            assert "2 minima, on atom 0 +0.0000 eV, atom 1 +0.0000 eV" in message
            _, chosen = self.solve(3.0)
        # A tie goes to the first atom: the search is deterministic.
        torch.testing.assert_close(prediction.density.charges, chosen.density.charges)
        assert prediction.solution.stages[0].name == "search over sites"
        assert prediction.solution.iterations > chosen.solution.iterations

    def test_no_warning_without_wells(self):
        """Both starts end in the same place only if the edge costs nothing: a good conductor."""
        model = uniform_model("localised", conductance=1e5, hardness=2.0, well=0.0, quadratic=True)
        system = replace(chain(2), charge=torch.ones(1).double())
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("error")
            charges = model(system).density.charges
        torch.testing.assert_close(charges, torch.full_like(charges, 0.5), atol=1e-4, rtol=0)

    def test_the_lowest_minimum_is_returned(self):
        """A field along the bond makes one of the two minima the lower one."""
        model = self.model(3.0)
        for field, site in ((0.2, 1), (-0.2, 0)):  # the force on +q is +qE
            system = in_field(chain(2), field, 0, 0)
            system = replace(system, charge=torch.ones(1).double())
            with torch.no_grad(), pytest.warns(SeveralMinimaWarning, match=f"on atom {site} "):
                charges = model(system).density.charges
            assert float(charges[site]) > 0.9

    def test_two_units_are_placed_one_after_the_other(self):
        model = self.model(3.0)
        system = replace(chain(4), charge=torch.full((1,), 2.0).double())
        with torch.no_grad(), pytest.warns(SeveralMinimaWarning):
            charges = model(system).density.charges
        assert sorted(charges.round().tolist()) == [0, 0, 1, 1]
        assert float(charges[0]) > 0.9 and float(charges[3]) > 0.9  # as far apart as can be

    def test_structures_of_a_batch_search_on_their_own(self):
        model = self.model(3.0)
        frames = [
            Atoms(f"H{n}", positions=[[SPACING * i, 0, 0] for i in range(n)]) for n in (2, 4, 3)
        ]
        charges = (1.0, 2.0, 0.0)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", SeveralMinimaWarning)
            together = model(System.from_atoms(frames, charge=charges))
            alone = [
                model(System.from_atoms(frame, charge=q))
                for frame, q in zip(frames, charges, strict=True)
            ]
        density = torch.cat([p.density.coefficients for p in alone])
        torch.testing.assert_close(together.density.coefficients, density, atol=1e-9, rtol=0)
        torch.testing.assert_close(together.energy, torch.cat([p.energy for p in alone]))

    def test_a_fermi_level_is_refused(self):
        with pytest.raises(InputError, match="holds whole charges"):
            self.model(3.0)(replace(chain(2), fermi_level=torch.zeros(1).double()))

    def test_sites_must_be_weights(self):
        sites = torch.tensor([1.0, -1.0], dtype=torch.float64)
        with pytest.raises(InputError, match="one weight ≥ 0 per atom"):
            self.model(3.0)(replace(chain(2), charge_sites=sites))


def test_charge_ends_in_the_well_it_was_put_in(monkeypatch):
    """Steps that are short at first stay in the basin, like the steepest descent: ever shorter ones
    end in the same place. Whole Newton steps end 0.6 e away here, 0.16 eV higher.
    """
    model = random_model("EnergyFunctional", functional="localised")
    _, system = hard_input(NUMBERS, 139)
    if bool((system.charge != 0).any()):
        system = replace(system, electric_field=along_open_axes(system, system.electric_field))
    with torch.no_grad():
        found = model(system)
        ends = []
        for radius in (0.02, torch.inf):
            monkeypatch.setattr(energy_functional, "_WITHIN_A_WELL", radius)
            ends.append(model(system))
    near, far = (float((end.density.charges - found.density.charges).abs().max()) for end in ends)
    assert near < 1e-7 and far > 0.4
    assert float(ends[1].energy) > float(found.energy) + 0.05


def test_a_warm_start_saves_maps_and_changes_nothing():
    model = random_model("EnergyFunctional")
    system = System.from_atoms(fragments(2.5))
    with torch.no_grad():
        cold = model(system)
        warm = model(system, start=cold.density.coefficients)
        exact = model(system, scf=SCFOptions(tolerance=1e-12))
    assert warm.solution.iterations < cold.solution.iterations
    torch.testing.assert_close(warm.energy, exact.energy, atol=1e-9, rtol=0)


def test_the_past_does_not_choose_among_several_minima():
    """Started from the other minimum, a localised functional still ends where it was told to."""
    model = uniform_model("localised", conductance=5.0, hardness=2.0, well=3.0, quadratic=True)
    here, there = (
        replace(chain(2), charge=torch.ones(1).double(), charge_sites=torch.tensor(s).double())
        for s in ([1.0, 0.0], [0.0, 1.0])
    )
    with torch.no_grad():
        other = model(there).density.coefficients
        cold, warm = model(here), model(here, start=other)
    assert float(other[1, 0]) > 0.9 > 0.1 > float(cold.density.charges[1])
    assert torch.equal(warm.density.coefficients, cold.density.coefficients)
