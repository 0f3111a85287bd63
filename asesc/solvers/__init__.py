"""Solvers: numerics only, no physics and no other part of the package but its errors."""

from asesc.solvers.adjoint import attach_derivatives
from asesc.solvers.linear import minimise_quadratic_cg, minimise_quadratic_dense, solve_dense
from asesc.solvers.solution import READ_OUT, Solution

__all__ = [
    "READ_OUT",
    "Solution",
    "attach_derivatives",
    "minimise_quadratic_cg",
    "minimise_quadratic_dense",
    "solve_dense",
]
