"""ASE calculators: they convert, check and cache; the numbers come from the layers below."""

from asesc.calculators.batches import Evaluations, evaluate_many
from asesc.calculators.coulomb import CoulombCalculator
from asesc.calculators.evaluation import Evaluation
from asesc.calculators.sccalculator import SCCalculator

__all__ = ["CoulombCalculator", "Evaluation", "Evaluations", "SCCalculator", "evaluate_many"]
