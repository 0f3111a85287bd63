"""Molecular dynamics with ASE: one map per step, a logger of the electrons, and restarts."""

from asesc.md.calculator import DynamicsCalculator
from asesc.md.logger import ElectronLogger
from asesc.md.restart import load_restart, save_restart

__all__ = ["DynamicsCalculator", "ElectronLogger", "load_restart", "save_restart"]
