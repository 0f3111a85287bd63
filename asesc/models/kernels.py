"""What computes the backbone: torch's operations one by one, compiled ones, or other kernels."""

from __future__ import annotations

from asesc.errors import InputError, did_you_mean
from asesc.models.compiled import Compiled
from asesc.models.cuequivariance import CuEquivariance

_ACCELERATORS: dict[str, type[Compiled] | type[CuEquivariance] | None] = {
    "torch": None,
    "compiled": Compiled,
    "cuequivariance": CuEquivariance,
}
KERNELS = tuple(_ACCELERATORS)


def accelerator_type(name: str) -> type[Compiled] | type[CuEquivariance] | None:
    """What evaluates ``mace`` in its place, made from its architecture; None for itself.

    Raises
    ------
    InputError
        For an unknown name.
    """
    if name not in _ACCELERATORS:
        raise InputError(
            f"kernels={name!r}; choose one of {', '.join(KERNELS)}."
            f"{did_you_mean(str(name), KERNELS)}"
        )
    return _ACCELERATORS[name]
