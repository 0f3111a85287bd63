"""Derivatives of energies and dipoles: forces, stress, and linear response."""

from asesc.response.born_charges import BornCharges, born_effective_charges
from asesc.response.conjugacy import Conjugacy, conjugacy, conjugacy_errors
from asesc.response.dielectric import dielectric_tensor
from asesc.response.dipole import molecular_dipole, polarisation
from asesc.response.forces import ForceResult, energy_and_forces
from asesc.response.hessian import hessian, hessian_vector_product
from asesc.response.polarizability import field_derivative, polarizability

__all__ = [
    "BornCharges",
    "Conjugacy",
    "ForceResult",
    "born_effective_charges",
    "conjugacy",
    "conjugacy_errors",
    "dielectric_tensor",
    "energy_and_forces",
    "field_derivative",
    "hessian",
    "hessian_vector_product",
    "molecular_dipole",
    "polarisation",
    "polarizability",
]
