"""Solvers: numerics only, no physics and no other part of the package but its errors."""

from asesc.solvers.adjoint import attach_derivatives, frozen_jacobian
from asesc.solvers.fixed_point import solve_fixed_point
from asesc.solvers.linear import minimise_quadratic_cg, minimise_quadratic_dense, solve_linear
from asesc.solvers.minimise import minimise
from asesc.solvers.options import SCFOptions
from asesc.solvers.solution import READ_OUT, Solution, Stage

__all__ = [
    "READ_OUT",
    "SCFOptions",
    "Solution",
    "Stage",
    "attach_derivatives",
    "frozen_jacobian",
    "minimise",
    "minimise_quadratic_cg",
    "minimise_quadratic_dense",
    "solve_fixed_point",
    "solve_linear",
]
