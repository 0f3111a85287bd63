"""Defects: cells, formation energies, and eFNV against cells that grow."""

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from builders import random_model, tiny_card
from polarisable_ions import PolarisableIons
from rigid_ions import RigidIons, ionic_crystal

from asesc import CoulombCalculator, SCCalculator
from asesc.defects import (
    ChargedDefect,
    DefectState,
    FormationEnergies,
    SmallCellWarning,
    UnevenPotentialWarning,
    defect_cell,
    interstitial,
    substitution,
    vacancy,
)
from asesc.errors import InputError, ModelScopeError, PropertyUnavailableError
from asesc.phonons import dielectric_response, phonons
from asesc.pretrained import save_model
from asesc.workflows.defect_states import Perfect

#: In cells as small as some of these the defect is nowhere like a point charge.
UNEVEN = pytest.mark.filterwarnings("ignore::asesc.defects.UnevenPotentialWarning")


@pytest.fixture
def magnesia() -> Atoms:
    return bulk("MgO", "rocksalt", 4.21)


class TestCells:
    def test_vacancy(self, magnesia):
        change = vacancy(magnesia, "O")
        cell = defect_cell(magnesia, change, (2, 3, 2))
        assert change.name == "v_O" and change.exchanged == {"O": -1}
        assert len(cell.bulk) == 24 and len(cell.defect) == 23
        self.same_sites(cell)
        assert np.abs(cell.defect.positions - cell.position).sum(1).min() > 1.0

    def test_substitution_keeps_the_order(self, magnesia):
        cell = defect_cell(magnesia, substitution(magnesia, "Mg", "Ca"), (2, 2, 2))
        changed = np.flatnonzero(cell.defect.numbers != cell.bulk.numbers)
        assert len(changed) == 1 and cell.defect.symbols[changed[0]] == "Ca"
        np.testing.assert_allclose(cell.defect.positions[changed[0]], cell.position)
        assert changed[0] not in cell.defect_sites
        self.same_sites(cell)

    def test_interstitial(self, magnesia):
        place = 0.25 * magnesia.cell.array.sum(0)
        change = interstitial(magnesia, "H", place)
        cell = defect_cell(magnesia, change, (2, 2, 2))
        assert change.name == "H_i" and change.exchanged == {"H": 1}
        assert cell.defect.symbols[-1] == "H" and len(cell.defect_sites) == 16
        self.same_sites(cell)

    @staticmethod
    def same_sites(cell):
        np.testing.assert_array_equal(
            cell.bulk.positions[cell.bulk_sites], cell.defect.positions[cell.defect_sites]
        )
        assert (cell.bulk.numbers[cell.bulk_sites] == cell.defect.numbers[cell.defect_sites]).all()

    def test_any_supercell(self, magnesia):
        cubic = [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]
        cell = defect_cell(magnesia, vacancy(magnesia, 1), cubic)
        assert len(cell.bulk) == 8
        np.testing.assert_allclose(cell.bulk.cell.angles(), 90)

    def test_inequivalent_sites_need_an_index(self):
        pair = Atoms("O2H", [(0, 0, 0), (0, 0, 1.9), (0, 0, 3.1)], cell=(4, 4, 5), pbc=True)
        with pytest.raises(InputError, match=r"2 inequivalent sites.*\[0, 1\]"):
            vacancy(pair, "O")
        assert vacancy(pair, 1).position[2] == pytest.approx(1.9)

    def test_bad_input(self, magnesia):
        with pytest.raises(InputError, match=r"no 'Na' in MgO"):
            vacancy(magnesia, "Na")
        with pytest.raises(InputError, match="no atom 7 among 2"):
            vacancy(magnesia, 7)
        with pytest.raises(InputError, match="no chemical element"):
            substitution(magnesia, "O", "Xq")
        with pytest.raises(InputError, match="nothing would be substituted"):
            substitution(magnesia, "O", "O")
        with pytest.raises(InputError, match=r"0\.10 Å from atom 0"):
            interstitial(magnesia, "H", (0.1, 0, 0))
        for supercell in [(2, 2), (0, 1, 1), (1.5, 2, 2), np.eye(3) * -1]:
            with pytest.raises(InputError, match="three positive integers"):
                defect_cell(magnesia, vacancy(magnesia, "O"), supercell)
        molecule = Atoms("O")
        with pytest.raises(InputError, match="three periodic directions"):
            defect_cell(molecule, vacancy(molecule, 0), (1, 1, 1))


def test_correction_and_extrapolation_agree(magnesia):
    """V_O(2+) in polarisable ions: the slope is the model's ε, and small cells give the limit.

    The correction leaves c₃/L³: removing it with two cells gives the limit of the uncorrected
    three-parameter fit.
    """
    defect = ChargedDefect.vacancy(magnesia, "O", calc=PolarisableIons(), supercell=(3, 3, 3))
    table = defect.formation_energies(
        (2,), chempots={"O": -4.0}, vbm=1.0, fmax=None, extrapolate=(3, 4, 5, 6), progress=False
    )
    (found,) = table.extrapolations
    assert table.dielectric[0, 0] > 1.4
    assert found.dielectric == pytest.approx(table.dielectric[0, 0], rel=5e-3)
    first, second = found.corrected[:2]
    ratio = (found.lengths[1] / found.lengths[0]) ** 3
    assert (ratio * second - first) / (ratio - 1) == pytest.approx(found.limit, abs=0.03)
    errors = np.abs(found.corrected - found.limit)
    raw = np.abs(found.energies - found.limit)
    assert (errors < 0.06 * raw).all() and (np.diff(errors) < 0).all()
    assert table.extrapolated_energy(2) == pytest.approx(found.limit + 4.0 * -1 + 2.0, abs=1e-9)


@pytest.fixture(scope="module")
def oblong() -> FormationEnergies:
    """V_O(2+) in an orthorhombic cell that is short along one axis."""
    crystal = bulk("MgO", "rocksalt", 4.21, cubic=True)
    crystal.set_cell([4.3, 4.2, 4.15], scale_atoms=True)
    defect = ChargedDefect.vacancy(crystal, "O", calc=PolarisableIons(), supercell=(1, 2, 2))
    with pytest.warns() as caught:
        table = defect.formation_energies(
            (2,), chempots={"O": -4.0}, vbm=1.0, band_gap=7.8, fmax=None, progress=False
        )
    assert {w.category for w in caught} <= {SmallCellWarning, UnevenPotentialWarning}
    return table


def test_correction_is_that_of_another_code(oblong):
    """5.34608987 eV by pydefect (Kumagai's own) through doped 3.2.1, from the same potentials."""
    assert oblong.states[0].correction.energy == pytest.approx(5.34608987, abs=1e-6)


@pytest.mark.filterwarnings("ignore")  # doped and what it imports warn of many things
def test_doped_computes_the_same(oblong):
    pytest.importorskip("doped")
    (entry,) = oblong.to_doped()
    assert entry.charge_state == 2 and entry.get_ediff() == pytest.approx(oblong.energy(2) + 2)
    found = entry.get_kumagai_correction(verbose=False)
    found = found[0] if isinstance(found, tuple) else found
    assert found.correction_energy == pytest.approx(oblong.states[0].correction.energy, abs=1e-6)
    energy = entry.formation_energy(chempots={"O": -4.0}, fermi_level=3.0)
    assert energy == pytest.approx(oblong.energy(2, 3.0), abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_doped_takes_neutral_defects_without_potentials():
    pytest.importorskip("doped")
    crystal = bulk("Cu", cubic=True)
    defect = ChargedDefect.vacancy(crystal, "Cu", calc=EMT(), supercell=(2, 2, 2))
    table = defect.formation_energies((0,), chempots={"Cu": 0.5}, fmax=None, progress=False)
    (entry,) = table.to_doped()
    assert entry.charge_state == 0
    assert entry.formation_energy(chempots={"Cu": 0.5}) == pytest.approx(table.energy(0))


class SpringCrystal(RigidIons):
    """Rigid ions that tell their site potentials."""

    @property
    def extras(self):
        return self.coulomb.extras


@UNEVEN
def test_relaxed_ions_screen_with_the_static_dielectric_tensor():
    """ε∞ = 1, so that all screening of V_Cl(+) is that of the ions, which only ε0 knows."""
    crystal = ionic_crystal(stiffness=3.0)
    rigid = crystal.calc
    calc = SpringCrystal(
        rigid.charges, stiffness=3.0, rest=rigid.rest, cutoff=rigid.cutoff, width=0.8
    )
    crystal.calc = calc
    defect = ChargedDefect.vacancy(crystal, "Cl", calc=calc, supercell=(3, 3, 3))
    table = defect.formation_energies(
        (1,), chempots={"Cl": 0.0}, vbm=0.0, fmax=0.003, extrapolate=(2, 3, 4), progress=False
    )
    static = dielectric_response(phonons(crystal, (1, 1, 1), progress=False)).static
    np.testing.assert_allclose(table.dielectric, static, atol=1e-6)
    assert static[0, 0] > 1.8
    (found,) = table.extrapolations
    assert found.dielectric == pytest.approx(static[0, 0], rel=0.05)
    assert abs(found.corrected[-1] - found.limit) < 0.1 * abs(found.energies[-1] - found.limit)
    state = table.states[0]
    assert state.energy < state.unrelaxed_energy - 0.5
    assert np.abs(state.atoms.get_forces()).max() < 0.003


def fake_table(energies, *, vbm=1.0, band_gap=6.0) -> FormationEnergies:
    """Formation energies as given at the top of the valence band."""
    cubic = bulk("MgO", "rocksalt", 4.21, cubic=True)
    change = vacancy(cubic, "O")
    states = tuple(
        DefectState(q, cubic, np.zeros(3), e - 3.0 - q * vbm - 7.0, e, None, None)
        for q, e in sorted(energies.items(), reverse=True)
    )
    perfect = Perfect(cubic, -7.0, None)
    cell = defect_cell(cubic, change, (1, 1, 1))
    return FormationEnergies(
        change, cell, "MgO · test", states, perfect, {"O": 3.0}, vbm, band_gap, None, ()
    )


def test_transition_levels():
    """E_f(q) crosses E_f(q') where E_F = (E' − E)/(q − q'); a charge above the hull is left out."""
    table = fake_table({2: 0.0, 1: 2.0, 0: 5.0})
    assert table.energy(2) == pytest.approx(0.0) and table.energy(2, 1.5) == pytest.approx(3.0)
    assert table.transition_levels == pytest.approx({(2, 1): 2.0, (1, 0): 3.0})
    assert [table.stable_charge(e) for e in (0.0, 2.5, 4.0)] == [2, 1, 0]
    unstable = fake_table({2: 0.0, 1: 3.0, 0: 5.0})
    assert unstable.transition_levels == pytest.approx({(2, 0): 2.5})
    assert fake_table({0: 5.0}).transition_levels == {}


@pytest.mark.filterwarnings("ignore::asesc.defects.SmallCellWarning")
def test_the_defect_is_where_the_new_atom_went():
    """After relaxation distances count from the interstitial, and from the site of a vacancy."""
    crystal = bulk("Cu", cubic=True)
    place = crystal.positions[0] + (1.7, 0.2, 0.1)
    defect = ChargedDefect.interstitial(crystal, "Cu", place, calc=EMT(), supercell=(2, 2, 2))
    table = defect.formation_energies(
        (0,), chempots={"Cu": 0.0}, fmax=0.05, steps=200, progress=False
    )
    (state,) = table.states
    np.testing.assert_allclose(state.position, state.atoms.positions[-1])
    assert np.linalg.norm(state.position - place) > 0.05
    assert state.energy < state.unrelaxed_energy
    empty = ChargedDefect.vacancy(crystal, "Cu", calc=EMT(), supercell=(2, 2, 2))
    (state,) = empty.formation_energies((0,), chempots={"Cu": 0.0}, progress=False).states
    np.testing.assert_allclose(state.position, 0, atol=1e-12)


def test_plot_and_table(tmp_path):
    table = fake_table({2: 0.0, 1: 2.0, 0: 5.0})
    axes = table.plot(tmp_path / "v_O.png")
    assert axes.get_xlim() == (0.0, 6.0) and "v_O" in axes.get_title()
    assert (tmp_path / "v_O.png").stat().st_size > 5000
    table.to_csv(tmp_path / "v_O.csv")
    with open(tmp_path / "v_O.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["formation energy (eV)"]) for r in rows] == pytest.approx([0, 2, 5])


@pytest.fixture
def silica_defect(silica):
    return ChargedDefect.vacancy(silica, 1, calc=silica.calc, supercell=(3, 2, 2))


@UNEVEN
def test_model_with_variable_charge(silica_defect):
    """All parts from one model: ε∞, site potentials, and E(N) − E(N−1) as the valence band."""
    with pytest.warns(SmallCellWarning, match=r"7\.\d Å from its image"):
        table = silica_defect.formation_energies(
            (0, 1), chempots={"O": -2.0}, fmax=None, progress=False
        )
    calc = silica_defect.calc
    np.testing.assert_allclose(
        table.dielectric, calc.get_dielectric_tensor(silica_defect.crystal), atol=1e-9
    )
    hole = table.perfect.atoms.copy()
    hole.info["charge"] = 1
    hole.calc = SCCalculator(random_model("SplitChargeEquilibration"))
    with pytest.warns(UserWarning, match="neutralised by a uniform background"):
        assert table.vbm == pytest.approx(table.perfect.energy - hole.get_potential_energy())
    neutral = table.states[1]
    assert neutral.correction.energy == 0
    bare = neutral.energy - table.perfect.energy - 2.0
    assert table.energy(0) == pytest.approx(bare)
    assert [state.atoms.info["charge"] for state in table.states] == [1, 0]


@pytest.mark.filterwarnings("ignore:Structure charge")  # pymatgen: not the sum of oxidation states
@UNEVEN
@pytest.mark.filterwarnings("ignore::asesc.defects.SmallCellWarning")
def test_pymatgen_entries_keep_the_charge(silica_defect):
    table = silica_defect.formation_energies(
        (0, 1), chempots={"O": -2.0}, vbm=0.5, fmax=None, progress=False
    )
    charged, neutral, perfect = table.to_pymatgen()
    assert (charged.structure.charge, neutral.structure.charge) == (1, 0)
    correction = table.states[0].correction.energy
    assert charged.energy - perfect.energy - 2.0 + 0.5 == pytest.approx(table.energy(1))
    assert charged.correction == pytest.approx(correction)
    again = type(charged).from_dict(charged.as_dict())
    assert again.data["charge"] == 1 and again.structure.charge == 1
    assert len(again.data["site_potentials"]) == 35


@pytest.mark.filterwarnings("ignore::asesc.defects.SmallCellWarning")
class TestRefusals:
    def test_charge_outside_the_card(self, silica, tmp_path):
        """The model 'tiny' covers −1 … +1 e; it says so before anything is relaxed."""
        save_model(random_model("SplitChargeEquilibration"), tmp_path / "tiny", tiny_card())
        calc = SCCalculator(tmp_path / "tiny")
        defect = ChargedDefect.vacancy(silica, 1, calc=calc, supercell=(2, 2, 2))
        with pytest.raises(ModelScopeError, match=r"charge \+2 e .* outside the trained range"):
            defect.formation_energies(
                (0, 2), chempots={"O": 0.0}, dielectric=3.0, fmax=1e-9, progress=False
            )

    @pytest.mark.filterwarnings("ignore:.*but the charges given to CoulombCalculator add up")
    def test_charge_that_fixed_charges_do_not_make(self, magnesia):
        calc = CoulombCalculator(charges={"Mg": 2, "O": -2}, width=1.0)
        defect = ChargedDefect.vacancy(magnesia, "O", calc=calc, supercell=(2, 2, 2))
        with pytest.raises(InputError, match=r"charge \+0 e, but .* \+2\.000 e"):
            defect.formation_energies(
                (0,), chempots={"O": 0.0}, dielectric=3.0, fmax=None, progress=False
            )

    def test_missing_pieces(self, silica_defect, magnesia):
        ask = silica_defect.formation_energies
        with pytest.raises(InputError, match="no chemical potential of O"):
            ask((0,), chempots={"Si": 1.0})
        with pytest.raises(InputError, match="without a gap"):
            ask((0,), chempots={"O": 1.0}, band_gap=0.0)
        with pytest.raises(InputError, match="at least three sizes"):
            ask((0,), chempots={"O": 1.0}, extrapolate=(2, 3))
        with pytest.raises(InputError, match="different whole numbers"):
            ask((0, 0.5), chempots={"O": 1.0}, dielectric=3.0)
        with pytest.raises(InputError, match="choose 'kumagai'"):
            ask((0,), chempots={"O": 1.0}, correction="freysoldt")
        with pytest.raises(InputError, match="screens like a metal"):
            ask((1,), chempots={"O": 1.0}, dielectric=1e5)
        with pytest.raises(InputError, match="-1"):  # also where no charge needs it
            ask((0,), chempots={"O": 1.0}, dielectric=-1.0)
        copper = bulk("Cu")
        metal = ChargedDefect.vacancy(copper, "Cu", calc=EMT(), supercell=(3, 3, 3))
        with pytest.raises(PropertyUnavailableError, match=r"dielectric_tensor.*Pass dielectric="):
            metal.formation_energies((1,), chempots={"Cu": 0.0}, fmax=None)
        with pytest.raises(PropertyUnavailableError, match=r"site potentials.*correction=None"):
            metal.formation_energies(
                (1,), chempots={"Cu": 0.0}, dielectric=5.0, fmax=None, progress=False
            )
        bare = metal.formation_energies((0,), chempots={"Cu": 0.0}, fmax=None, progress=False)
        assert bare.energy(0) > 0.3

    def test_unrelaxed(self, magnesia):
        copper = bulk("Cu", cubic=True)
        defect = ChargedDefect.vacancy(copper, "Cu", calc=EMT(), supercell=(2, 2, 2))
        with pytest.raises(InputError, match="not relaxed to 1e-09 eV/Å within 1 steps"):
            defect.formation_energies(
                (0,), chempots={"Cu": 0.0}, correction=None, fmax=1e-9, steps=1, progress=False
            )

    def test_doped_is_optional(self, monkeypatch):
        import builtins

        real = builtins.__import__

        def without(name, *args, **kwargs):
            if name.startswith("doped"):
                raise ImportError("no doped here")
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", without)
        from asesc.errors import SetupError

        with pytest.raises(SetupError, match="pip install doped"):
            fake_table({0: 1.0}).to_doped()
