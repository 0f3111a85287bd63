"""A model together with the solver's options and start of one calculator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from asesc.electrostatics.boundary import ACCURACY
from asesc.models import Potential, Prediction
from asesc.solvers import SCFOptions
from asesc.system import System


@dataclass(frozen=True)
class PreparedModel:
    """Stands where a model stands; nothing here changes an answer beyond the tolerance.

    Parameters
    ----------
    model : Potential
    scf : SCFOptions
    start : Tensor, (N, M), e Å^l, optional
        Density of the same atoms a step ago.
    solve : callable, optional
        In place of the model's own solver, see :meth:`asesc.models.base.Model.forward`.
    accuracy : float
        Relative error of Coulomb forces.
    """

    model: Potential
    scf: SCFOptions
    start: Tensor | None = None
    solve: Callable[..., Any] | None = None
    accuracy: float = ACCURACY

    def __call__(self, system: System, *, boundary: str = "auto", order: int = 2) -> Prediction:
        other = {} if self.solve is None else {"solve": self.solve}
        return self.model(
            system,
            boundary=boundary,
            accuracy=self.accuracy,
            scf=self.scf,
            start=self.start,
            order=order,
            **other,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)
