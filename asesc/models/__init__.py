"""Model families: one file each, listed in :data:`FAMILIES`."""

from asesc.models.backbone import packed_shapes
from asesc.models.base import Model, Problem, State
from asesc.models.energy_functional import EnergyFunctional
from asesc.models.fixed_charges import FixedCharges
from asesc.models.fixed_point import FixedPoint
from asesc.models.local_charges import LocalCharges
from asesc.models.mace_polar import MACEPolar
from asesc.models.potential import FAMILIES, Potential, Prediction
from asesc.models.qeq import QEq
from asesc.models.split_charge_equilibration import SplitChargeEquilibration
from asesc.models.split_charges import SplitCharges

__all__ = [
    "FAMILIES",
    "EnergyFunctional",
    "FixedCharges",
    "FixedPoint",
    "LocalCharges",
    "MACEPolar",
    "Model",
    "Potential",
    "Prediction",
    "Problem",
    "QEq",
    "SplitChargeEquilibration",
    "SplitCharges",
    "State",
    "packed_shapes",
]
