"""The two pictures of the workflows in the README.

python benchmarks/figure_workflows.py benchmarks/results

writes ``phonons.png`` from the shipped models, and ``defects.png`` from untrained ones: what is
shown there are exact properties of the electrostatics, not energies of a material.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from ase.build import bulk, fcc111
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asesc import SCCalculator
from asesc.cli.run import read_structure
from asesc.defects import ChargedDefect, FormationEnergies
from asesc.models import QEq, SplitChargeEquilibration
from asesc.phonons import band_structure, dielectric_response, phonons, relaxed
from asesc.slabs import potential_profile
from asesc.spectra import infrared, minimum

PICTURES = ("phonons", "defects")

_SMALL = {"channels": 4, "radial_width": 8}


def draw_phonons(bands: Axes, reflectivity: Axes) -> None:
    """α-quartz: bands with and without the field of longitudinal waves, and reflectivity."""
    crystal = read_structure("quartz")
    crystal.calc = SCCalculator("quartz")
    crystal = relaxed(crystal, cell=True)
    ph = phonons(crystal, (3, 3, 3))
    band_structure(ph).plot(ax=bands)
    dielectric_response(ph).plot(ax=reflectivity)
    params, ph.nac_params = ph.nac_params, None
    without = band_structure(ph)
    ph.nac_params = params
    for distance, values in zip(without.distances, without.wavenumbers, strict=True):
        bands.plot(distance, values, color="C1", lw=0.7, ls=":")
    bands.set_title("α-quartz · model quartz; dotted: no longitudinal field")
    reflectivity.set_title("α-quartz · model quartz: reflectivity")


def draw_spectrum(axes: Axes) -> None:
    """N-methylacetamide from one Hessian."""
    molecule = read_structure("nma")
    molecule.calc = SCCalculator("nma")
    infrared(minimum(molecule)).plot(ax=axes, width=15)
    axes.set_title("N-methylacetamide · model nma, harmonic")


def draw_slab(axes: Axes) -> None:
    """A field that ends at the surface of a metal: hard classical charges."""
    torch.manual_seed(0)
    backbone = {"elements": [13], "cutoff": 4.0, "layers": 1, **_SMALL}
    slab = fcc111("Al", (1, 1, 6), a=4.05, vacuum=8.0)
    slab.calc = SCCalculator(QEq(backbone=backbone, width=0.8, lmax=0))
    for field in (0.0, 0.1, 0.2):
        slab.calc.set(electric_field=(0, 0, field))
        profile = potential_profile(slab)
        axes.plot(profile.heights, profile.potential, lw=1.2, label=f"{field:g} V/Å")
    axes.axvspan(*profile.nuclei, color="0.93", zorder=0)
    axes.set(xlabel="height (Å)", ylabel="potential (V)", title="Al(111) slab in a field")
    axes.legend()


def vacancy() -> FormationEnergies:
    """V_O(2+) in polarisable ions, as in the tutorial."""
    torch.manual_seed(0)
    backbone = {"elements": [8, 12], "cutoff": 3.2, "layers": 2, **_SMALL}
    ions = SplitChargeEquilibration(
        backbone=backbone, width={8: 1.0, 12: 0.8}, formal_charges={8: -2, 12: 2}
    )
    crystal = bulk("MgO", "rocksalt", a=4.21)
    defect = ChargedDefect.vacancy(crystal, "O", calc=SCCalculator(ions), supercell=(4, 4, 4))
    return defect.formation_energies(
        (2,), chempots={"O": 0.0}, vbm=0.0, fmax=None, extrapolate=(3, 4, 5), progress=False
    )


def draw_vacancy(alignment: Axes, growth: Axes) -> None:
    """Its correction, and cells that grow."""
    table = vacancy()
    table.states[0].correction.plot(ax=alignment)
    table.extrapolations[0].plot(ax=growth)
    alignment.set_title("v$_O^{2+}$ in MgO: alignment of site potentials")
    growth.set_title("v$_O^{2+}$ in MgO: growing cells")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=PICTURES, help="one of the pictures")
    options = parser.parse_args()
    for name in PICTURES if options.only is None else (options.only,):
        figure = Figure(figsize=(12.5, 3.9), layout="constrained")
        first, second, third = figure.subplots(1, 3)
        if name == "phonons":
            draw_phonons(first, second)
            draw_spectrum(third)
        else:
            draw_slab(first)
            draw_vacancy(second, third)
        figure.savefig(options.folder / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
