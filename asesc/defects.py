"""Point defects in charge states: supercells, corrections, formation energies, extrapolation.

defect = ChargedDefect.vacancy(crystal, "O", calc=calc, supercell=(3, 3, 3))
table = defect.formation_energies((0, 1, 2), chempots={"O": -4.9}, vbm=3.1, band_gap=7.8)
table.plot("v_O.png")
"""

from asesc.workflows.charged_defect import ChargedDefect, SmallCellWarning
from asesc.workflows.defect_cells import (
    Change,
    DefectCell,
    defect_cell,
    interstitial,
    substitution,
    vacancy,
)
from asesc.workflows.defect_states import DefectState
from asesc.workflows.finite_size import (
    Extrapolation,
    FiniteSizeCorrection,
    UnevenPotentialWarning,
    kumagai_correction,
)
from asesc.workflows.formation import FormationEnergies
from asesc.workflows.point_charges import PointChargeLattice

__all__ = [
    "Change",
    "ChargedDefect",
    "DefectCell",
    "DefectState",
    "Extrapolation",
    "FiniteSizeCorrection",
    "FormationEnergies",
    "PointChargeLattice",
    "SmallCellWarning",
    "UnevenPotentialWarning",
    "defect_cell",
    "interstitial",
    "kumagai_correction",
    "substitution",
    "vacancy",
]
