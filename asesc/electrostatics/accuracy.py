"""One number for the accuracy of the Coulomb operator, and every cut-off that follows from it.

``accuracy`` is the relative root-mean-square error of the forces between the multipoles of the
density. From it come the cutoff of direct sums over wave vectors, spacing and spline order of a
mesh, the room that truncated kernels need around the atoms, and the range of short-range pairs.

The error of a mesh is known beforehand: for independent random multipoles every wave k reaches an
atom together with its images k + K under the mesh, weakened by R = Π (k_d/(k_d + K_d))^p for a
B-spline of order p. Integrated over the spectrum of the Gaussians this is a number between zero
and one that depends on the spacing in units of the width, p and lmax only.

References
----------
H. Wang, F. Dommert, C. Holm, J. Chem. Phys. 133, 034117 (2010), doi:10.1063/1.3446812, give the
same estimate for point charges.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from asesc.errors import InputError, did_you_mean

#: Relative force error of the default setting.
DEFAULT = 1e-6

#: No mesh is made for less: its splines would have to resolve rounding errors.
TIGHTEST = 1e-10

_FINEST, _COARSEST = 1e-12, 1e-2

#: Names that calculators accept for an accuracy.
ACCURACIES: dict[str, float] = {"fast": 1e-5, "default": DEFAULT, "high": 1e-9}

#: Spline orders to choose from, all even: see :mod:`asesc.electrostatics.splines`.
ORDERS = (4, 6, 8, 10, 12, 14)

_MULTIPOLE_LENGTH = 1.0  # Å: moments of order l are up to (1 Å)^l e, often a third of that
_SAFETY = 1.6  # one structure differs from the average of all
_IMAGES = (-2, -1, 1, 2)
_LARGEST = 7.0  # exp(−k²) is negligible beyond


def parse_accuracy(value: float | str) -> float:
    """A relative force error, or one of the names in :data:`ACCURACIES`, as a number.

    Raises
    ------
    InputError
        For an unknown name or a number that no engine is made for.
    """
    if isinstance(value, str):
        if value not in ACCURACIES:
            raise InputError(
                f"unknown accuracy {value!r}.{did_you_mean(value, ACCURACIES)} There are "
                f"{', '.join(ACCURACIES)}, or the relative error of Coulomb forces as a number"
            )
        return ACCURACIES[value]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not _FINEST <= value <= _COARSEST:
        raise InputError(
            f"accuracy={value!r} must be the relative error of Coulomb forces, between "
            f"{_FINEST:g} and {_COARSEST:g}, or one of {', '.join(ACCURACIES)}"
        )
    return float(value)


def spectral_fraction(accuracy: float) -> float:
    """Neglected fraction exp(−k_c²σ²) of the spectrum in direct sums over wave vectors.

    Four orders tighter than the forces: a wave vector that enters the sphere |k| < k_c as the cell
    changes shape moves the energy by this fraction, and that must not be felt as stress.
    """
    return max(1e-4 * accuracy, 1e-16)


def gaussian_range(accuracy: float) -> float:
    """x with exp(−x²) a tenth of ``accuracy``: where tails erfc(x) may be neglected."""
    return math.sqrt(-math.log(0.1 * accuracy))


@lru_cache(maxsize=512)
def mesh_error(
    ratio: float, *, order: int, width: float, lmax: int, size: float, skew: float = 1.0
) -> float:
    """Estimated relative force error of a mesh with ``ratio`` = spacing/width.

    At densities of matter. In a gas of single multipoles, 50 Å³ and more for each, where forces are
    weak, what a multipole feels of itself on the mesh makes the error up to four times larger.

    Parameters
    ----------
    ratio : float
        Mesh spacing in units of the smallest Gaussian width.
    order : int
        Spline order.
    width : float, Å
        The smallest width; enters through the weight of dipoles against charges.
    size : float, Å
        Linear size of the structure: forces have no waves longer than that.
    skew : float
        Length of a mesh vector over its height above the others: the waves that a mesh cannot tell
        apart differ by more than 2π/spacing when the vectors are not orthogonal.
    """
    along, across, weight = _quadrature()
    nyquist = math.pi / ratio
    # k_∥ in one zone of the mesh, k_⊥ wherever the spectrum exp(−k²) is not negligible.
    reach = min(nyquist, _LARGEST)
    k_along = reach * along
    k2 = k_along**2 + across**2
    spectrum = weight * reach * across * (np.exp(-k2) / k2) ** 2
    emitted, received = (_moments(k2, lmax, width, n) for n in (0, 1))
    lost = 0.0
    for image in _IMAGES:
        shifted = k_along + 2 * nyquist * image
        leak = (k_along / shifted) ** (2 * order)
        k2_image = shifted**2 + across**2 + (skew**2 - 1) * (2 * nyquist * image) ** 2
        from_image = emitted * _moments(k2_image, lmax, width, 1)
        to_image = received * _moments(k2_image, lmax, width, 0)
        lost += (spectrum * leak * (from_image + to_image)).sum()
    # Three directions; and the waves that the mesh cannot tell from others.
    lost = 3 * lost + _signal(nyquist, lmax, width)
    return _SAFETY * math.sqrt(lost / _signal(2 * math.pi * width / size, lmax, width))


def mesh_ratio(
    accuracy: float, *, order: int, width: float, lmax: int, size: float, skew: float = 1.0
) -> float:
    """Largest spacing/width with which splines of this order reach ``accuracy``.

    Size and skew are rounded, so that a cell that breathes does not change its mesh all the time.
    """
    size, skew = 2.0 ** (round(2 * math.log2(size)) / 2), math.ceil(10 * skew - 1e-6) / 10
    return _mesh_ratio(accuracy, order, width, lmax, size, skew)


@lru_cache(maxsize=512)
def _mesh_ratio(
    accuracy: float, order: int, width: float, lmax: int, size: float, skew: float
) -> float:
    low, high = 0.02, 1.2
    for _ in range(14):
        middle = math.sqrt(low * high)
        error = mesh_error(middle, order=order, width=width, lmax=lmax, size=size, skew=skew)
        if error > accuracy:
            high = middle
        else:
            low = middle
    return low


def _signal(smallest: float, lmax: int, width: float) -> float:
    """Mean square force from all waves longer than ``smallest``, in units of 1/width."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    k = smallest + 0.5 * _LARGEST * (nodes + 1)
    k2 = k**2
    spectrum = 0.5 * _LARGEST * weights * 4 * math.pi * k2 * (np.exp(-k2) / k2) ** 2
    return float((spectrum * _moments(k2, lmax, width, 0) * _moments(k2, lmax, width, 1)).sum())


def _moments(k2: np.ndarray, lmax: int, width: float, derivatives: int) -> np.ndarray:
    """Σ_l |R_l(k)|² of typical multipoles, differentiated; k in units of 1/width."""
    unit = (_MULTIPOLE_LENGTH / width) ** 2
    total = np.zeros_like(k2)
    for l in range(lmax + 1):
        double_factorial = math.prod(range(2 * l - 1, 0, -2))
        total += unit**l * k2 ** (l + derivatives) / double_factorial**2
    return total


@lru_cache(maxsize=1)
def _quadrature() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k_∥ in units of its range, k_⊥, and the weight 2πk_⊥ dk_∥ dk_⊥ without k_⊥."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    along, across = np.meshgrid(nodes, 0.5 * _LARGEST * (nodes + 1), indexing="ij")
    return along, across, np.outer(weights, weights) * math.pi * _LARGEST
