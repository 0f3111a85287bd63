"""One GPAW plane-wave single point and the labels taken from it."""

import numpy as np
from ase import Atoms
from gpaw import GPAW, PW, Davidson, FermiDirac
from gpaw.external import ConstantElectricField
from hirshfeld import hirshfeld_multipoles
from settings import Settings

VACUUM_WINDOW = (0.8, 1.6)
"""Distance from the two cell faces, in Angstrom, where the vacuum potential is read."""


LEAK = 0.02
"""Largest difference, in e Angstrom, of the dipole of a slab and that of its atoms."""


class VacuumElectrons(RuntimeError):
    """Electrons of a slab are in the vacuum, beyond the reach of any atom."""


def calculator(
    settings: Settings, kpts: dict | np.ndarray, *, charge: int, field: float, magnetic: bool
) -> GPAW:
    """Build the GPAW calculator.

    Parameters
    ----------
    settings : Settings
    kpts : dict or (n, 3) array
    charge : int, e
        Compensated by a uniform background in a periodic cell.
    field : float, V/Angstrom
        Along z, physicists' sign: the force on a charge +q is +q times the field. Only with
        ``settings.open_axis``.
    magnetic : bool
        Spin-polarised with the total moment held at that of the initial ones, for an odd number of
        electrons: left free it wanders, and the density then takes twice the iterations or ends in
        a state of higher energy.
    """
    options = {}
    if settings.open_axis:
        options["poissonsolver"] = {"dipolelayer": "xy"}
    if field:
        options["external"] = ConstantElectricField(field, [0, 0, 1])
    return GPAW(
        mode=PW(settings.cutoff),
        xc=settings.xc,
        kpts=kpts,
        occupations=FermiDirac(settings.smearing, fixmagmom=magnetic),
        # With one step between updates of the density an insulator takes more iterations than with
        # two, and less time; a metal slab 50 iterations instead of 28, and more time.
        eigensolver=Davidson(niter=2 if settings.open_axis else 1),
        charge=charge,
        spinpol=magnetic,
        symmetry={"point_group": False},
        convergence={"density": settings.density, "eigenstates": settings.eigenstates},
        maxiter=settings.max_iterations,
        legacy_gpaw=True,
        txt=None,
        **options,
    )


def is_odd(atoms: Atoms, charge: int) -> bool:
    """Whether the number of electrons is odd."""
    return (int(atoms.numbers.sum()) - charge) % 2 == 1


def label(atoms: Atoms, settings: Settings, *, charge: int = 0, field: float = 0.0) -> Atoms:
    """Compute one frame.

    Parameters
    ----------
    atoms : Atoms
        With ``info["n_vacancies"]`` in SiO2.
    settings : Settings
    charge : int, e
    field : float, V/Angstrom, along z

    Returns
    -------
    Atoms
        A copy with the keys listed in the README in ``info`` and ``arrays``.

    Raises
    ------
    gpaw.KohnShamConvergenceError
        If the density does not converge.
    VacuumElectrons
        If a field has drawn electrons off a slab.
    """
    frame = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, info=dict(atoms.info))
    frame.pbc = True, True, not settings.open_axis
    magnetic = not settings.open_axis and is_odd(atoms, charge)
    frame.set_initial_magnetic_moments([1 / len(frame)] * len(frame) if magnetic else None)
    calc = calculator(settings, settings.kpts(frame), charge=charge, field=field, magnetic=magnetic)
    frame.calc = calc
    frame.info |= {
        "REF_energy": frame.get_potential_energy(force_consistent=True),
        "charge": charge,
        "electric_field": np.array([0.0, 0.0, field]),
        "settings": settings.name,
        "hirshfeld": "sum",
        "iterations": calc.get_number_of_iterations(),
    }
    frame.info |= slab_levels(calc) if settings.open_axis else periodic_levels(calc, atoms, charge)
    charges, dipoles = hirshfeld_multipoles(calc, charge)
    forces = frame.get_forces()
    frame.calc = None
    frame.set_initial_magnetic_moments(None)
    frame.arrays |= {"REF_forces": forces, "REF_charges": charges, "REF_dipoles": dipoles}
    if settings.open_axis:
        require_bound(frame)
    return frame


def require_bound(frame: Atoms) -> None:
    """Refuse a slab whose dipole is not that of its atoms' charges and dipoles.

    Where a field takes the potential of the vacuum down to the Fermi level, the smearing fills its
    states, and what they hold belongs to the height of the cell and not to the slab.
    """
    heights = frame.positions[:, 2] - 0.5 * frame.cell[2, 2]
    parts = frame.arrays["REF_charges"] @ heights + frame.arrays["REF_dipoles"][:, 2].sum()
    missing = frame.info["REF_dipole"][2] - parts
    if abs(missing) > LEAK:
        raise VacuumElectrons(f"dipole {missing:+.4f} e Angstrom off that of the atoms")


def eigenvalues(calc: GPAW) -> np.ndarray:
    """Eigenvalues, (spins, k-points, bands), eV."""
    spins, kpts = calc.get_number_of_spins(), len(calc.get_ibz_k_points())
    return np.array(
        [[calc.get_eigenvalues(kpt=k, spin=s) for k in range(kpts)] for s in range(spins)]
    )


def periodic_levels(calc: GPAW, atoms: Atoms, charge: int) -> dict:
    """Fermi level and band edges relative to the cell average of the electrostatic potential.

    Bands are counted from the neutral cell: a vacancy holds the highest of them (its levels are
    ``defect_levels``, one per spin, averaged over k). In every charge state the valence band ends
    below that band and the conduction band begins above it.

    Returns
    -------
    dict
        ``fermi_level`` (the mean of the two where the moment is held), ``vbm``, ``cbm`` in eV and,
        with one vacancy, ``defect_levels``.
    """
    levels = eigenvalues(calc)
    filled = round(calc.get_number_of_electrons() + charge) // 2
    vacancies = atoms.info.get("n_vacancies", 0)
    result = {
        "fermi_level": np.mean(
            calc.get_fermi_levels() if len(levels) == 2 else calc.get_fermi_level()
        ),
        "vbm": levels[:, :, filled - vacancies - 1].max(),
        "cbm": levels[:, :, filled].min(),
    }
    if vacancies:
        result["defect_levels"] = levels[:, :, filled - 1].mean(axis=1)
    return result


def slab_levels(calc: GPAW) -> dict:
    """Dipole, Fermi level and plane-averaged potential of a slab with an open third axis.

    The electrostatic potential of the slab alone (without the external field) is flat in the
    vacuum; the mean of the values below and above the slab is the zero of ``fermi_level`` and of
    ``potential_profile``. The external potential -F (z - L/2) vanishes at the cell centre.

    Returns
    -------
    dict
        ``REF_dipole`` (3,) in e Angstrom (in-plane components are undefined: nan),
        ``fermi_level`` in eV, ``vacuum_step`` (above minus below, V), and ``potential_profile``
        in V on equidistant z from 0, both as electrostatic potential (positive near nuclei).
    """
    profile = -calc.get_electrostatic_potential().mean(axis=(0, 1))
    length = calc.atoms.cell[2, 2]
    height = np.arange(len(profile)) * length / len(profile)
    near, far = VACUUM_WINDOW
    below = profile[(height > near) & (height < far)].mean()
    above = profile[(height > length - far) & (height < length - near)].mean()
    vacuum = 0.5 * (below + above)
    return {
        "REF_dipole": np.array([np.nan, np.nan, calc.get_dipole_moment()[2]]),
        "fermi_level": calc.get_fermi_level() + vacuum,
        "vacuum_step": above - below,
        "potential_profile": (profile - vacuum)[::2].round(4),
    }
