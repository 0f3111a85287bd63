"""What a user may ask of the self-consistency solvers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from asesc.errors import InputError, did_you_mean


@dataclass(frozen=True)
class SCFOptions:
    """When a density counts as converged, and how long to try.

    Parameters
    ----------
    tolerance : float
        On the largest component of the residual of every structure: e Å^l for a fixed point,
        V Å^−l (or the units of the gradient) for a minimum.
    energy_tolerance : float, eV
        On the energy error that the residual implies, per structure, where the caller can tell.
    max_maps : int
        Evaluations of the map, Jacobian products included, after which the solver gives up. In a
        minimisation none is beyond it; Hessians do not count. An energy functional minimises once,
        again with as many maps on the ramp where that fails, and once per site that it searches.
    depth : int
        Pairs of steps and residual changes kept by Anderson mixing.
    dense_limit : int
        Unknowns per structure up to which Jacobians and Hessians are built and factorised.

    Raises
    ------
    InputError
        For values that cannot be meant.
    """

    tolerance: float = 1e-8
    energy_tolerance: float = 1e-7
    max_maps: int = 1000
    depth: int = 12
    dense_limit: int = 800

    def __post_init__(self) -> None:
        if not (self.tolerance > 0 and self.energy_tolerance > 0):
            raise InputError(
                f"tolerance={self.tolerance} and energy_tolerance={self.energy_tolerance} must be "
                "positive; 1e-8 and 1e-7 are the defaults"
            )
        if self.max_maps < 1 or self.depth < 1 or self.dense_limit < 0:
            raise InputError(
                f"max_maps={self.max_maps} and depth={self.depth} must be at least 1 and "
                f"dense_limit={self.dense_limit} at least 0"
            )

    @classmethod
    def of(cls, options: SCFOptions | Mapping[str, Any] | None) -> SCFOptions:
        """Options from a mapping such as ``{"tolerance": 1e-9}``; None means the defaults.

        Raises
        ------
        InputError
            For an unknown name or a value of the wrong kind.
        """
        if isinstance(options, cls):
            return options
        given = dict(options or {})
        kinds = {field.name: type(field.default) for field in fields(cls)}
        for name, value in given.items():
            if name not in kinds:
                raise InputError(
                    f"scf has no option {name!r}.{did_you_mean(name, kinds)} "
                    f"There are {', '.join(kinds)}"
                )
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or value != kinds[name](value):
                raise InputError(f"scf[{name!r}] must be {kinds[name].__name__}, got {value!r}")
        return cls(**{name: kinds[name](value) for name, value in given.items()})
