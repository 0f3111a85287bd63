"""Solvers: numerics only, no physics and no other part of the package but its errors."""

from asesc.solvers.adjoint import attach_derivatives, frozen_jacobian
from asesc.solvers.fixed_point import solve_fixed_point
from asesc.solvers.linear import minimise_quadratic_cg, minimise_quadratic_dense, solve_linear
from asesc.solvers.minimise import minimise
from asesc.solvers.options import SCFOptions
from asesc.solvers.precondition import (
    estimate_susceptibility,
    long_wave_inverse,
    long_waves,
    screening,
)
from asesc.solvers.prediction import Aspc
from asesc.solvers.response import response_inverse, solve_response
from asesc.solvers.solution import READ_OUT, Solution, Stage
from asesc.solvers.spectrum import spectral_radius

__all__ = [
    "READ_OUT",
    "Aspc",
    "SCFOptions",
    "Solution",
    "Stage",
    "attach_derivatives",
    "estimate_susceptibility",
    "frozen_jacobian",
    "long_wave_inverse",
    "long_waves",
    "minimise",
    "minimise_quadratic_cg",
    "minimise_quadratic_dense",
    "response_inverse",
    "screening",
    "solve_fixed_point",
    "solve_linear",
    "solve_response",
    "spectral_radius",
]
