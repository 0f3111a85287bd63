"""Infrared and Raman spectra of molecules and crystals, harmonic or from molecular dynamics.

infrared(molecule).plot("ir.png", width=10)
dyn.attach(recorder := MomentRecorder(atoms))
infrared_from_moments(recorder.moments, timestep, temperature=300).to_csv("ir-md.csv")
"""

from asesc.workflows.dynamics import (
    MomentRecorder,
    infrared_from_currents,
    infrared_from_moments,
    raman_from_polarizabilities,
    without_verlet_shift,
)
from asesc.workflows.evaluations import UnrelaxedWarning
from asesc.workflows.harmonic import infrared, raman, vibrations
from asesc.workflows.modes import ImaginaryModesWarning, Modes
from asesc.workflows.polarisation import ContinuousMoment, nearest_branch, unwrapped_moments
from asesc.workflows.relaxation import minimum, relaxed
from asesc.workflows.spectrum import LineSpectrum, Spectrum

__all__ = [
    "ContinuousMoment",
    "ImaginaryModesWarning",
    "LineSpectrum",
    "Modes",
    "MomentRecorder",
    "Spectrum",
    "UnrelaxedWarning",
    "infrared",
    "infrared_from_currents",
    "infrared_from_moments",
    "minimum",
    "nearest_branch",
    "raman",
    "raman_from_polarizabilities",
    "relaxed",
    "unwrapped_moments",
    "vibrations",
    "without_verlet_shift",
]
