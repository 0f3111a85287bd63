"""Gaussian multipole densities."""

from asesc.density.basis import GaussianBasis
from asesc.density.density import Density

__all__ = ["Density", "GaussianBasis"]
