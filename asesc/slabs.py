"""Slabs: potential profiles, work functions, capacitance, maps and cube files.

profile = potential_profile(slab)  # slab.pbc = (True, True, False)
profile.plot("profile.png", periods=(2.04,))
print(profile.work_functions, profile.dipole_step)
"""

from asesc.workflows.capacitance import Capacitance, capacitance
from asesc.workflows.maps import Line, Plane, along_line, on_plane, write_cube
from asesc.workflows.profile import PotentialProfile, TiltedVacuumWarning, potential_profile
from asesc.workflows.vacuum import empty_layer, opened

__all__ = [
    "Capacitance",
    "Line",
    "Plane",
    "PotentialProfile",
    "TiltedVacuumWarning",
    "along_line",
    "capacitance",
    "empty_layer",
    "on_plane",
    "opened",
    "potential_profile",
    "write_cube",
]
