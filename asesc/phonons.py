"""Phonons with LO-TO splitting and what follows from them, from any ASE calculator.

ph = phonons(crystal, supercell=(3, 3, 3), nac=True)  # a phonopy.Phonopy
band_structure(ph).plot("bands.png")
print(dielectric_response(ph).static)
"""

from asesc.workflows.bands import (
    Bands,
    DensityOfStates,
    ThermalProperties,
    band_structure,
    density_of_states,
    plot_bands_and_dos,
    thermal_properties,
)
from asesc.workflows.born import BornCharges, born_charges
from asesc.workflows.dielectric import DielectricResponse, Splitting, dielectric_response
from asesc.workflows.elastic import ElasticResponse, elastic_response
from asesc.workflows.evaluations import UnrelaxedWarning
from asesc.workflows.modes import ImaginaryModesWarning
from asesc.workflows.phonons import phonons
from asesc.workflows.relaxation import minimum, relaxed

__all__ = [
    "Bands",
    "BornCharges",
    "DensityOfStates",
    "DielectricResponse",
    "ElasticResponse",
    "ImaginaryModesWarning",
    "Splitting",
    "ThermalProperties",
    "UnrelaxedWarning",
    "band_structure",
    "born_charges",
    "density_of_states",
    "dielectric_response",
    "elastic_response",
    "minimum",
    "phonons",
    "plot_bands_and_dos",
    "relaxed",
    "thermal_properties",
]
