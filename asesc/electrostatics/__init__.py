"""Coulomb operators for open, slab and periodic boundaries."""

from asesc.electrostatics.boundary import BOUNDARIES, Boundary, boundary_for
from asesc.electrostatics.operator import CoulombOperator

__all__ = ["BOUNDARIES", "Boundary", "CoulombOperator", "boundary_for"]
