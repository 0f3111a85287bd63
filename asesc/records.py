"""Reading and writing without losing charge, field, dipole and results.

write("frames.extxyz", recorded(atoms))  # also .traj
write_row(connect("frames.db"), atoms)
structure = to_pymatgen(atoms)  # structure.charge is the total charge
"""

from asesc.workflows.conversions import from_phonopy, from_pymatgen, to_phonopy, to_pymatgen
from asesc.workflows.records import from_json, read_row, recorded, to_json, write_row

__all__ = [
    "from_json",
    "from_phonopy",
    "from_pymatgen",
    "read_row",
    "recorded",
    "to_json",
    "to_phonopy",
    "to_pymatgen",
    "write_row",
]
