"""SOAP: Adam in the eigenbases of Shampoo's preconditioner.

Labels of several kinds pull the weights of a model along directions of very different curvature.
Adam scales single numbers and cannot tell such directions apart; SOAP first turns every weight
matrix into the basis in which its gradients are uncorrelated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Shape = tuple[int, ...]


class SOAP(torch.optim.Optimizer):
    """Adam on rotated gradients, with decoupled weight decay.

    With G the gradient of a matrix, its moving covariances L = ⟨G Gᵀ⟩ and R = ⟨Gᵀ G⟩ and their
    eigenvectors Q_L and Q_R, Adam sees Q_Lᵀ G Q_R, and what it answers is turned back. Tensors of
    more axes have one covariance for each, vectors none: for these it is Adam. The first gradient
    only starts the covariances.

    Parameters
    ----------
    params : iterable
        Parameters or groups of them, as for every optimiser of torch.
    lr : float
    betas : (float, float)
        Decay of the moving averages of the gradient, and of its square and the covariances.
    eps : float
    weight_decay : float
    refresh : int
        Steps between improvements of the eigenvectors by one QR iteration.
    largest : int
        Axes longer than this are left as they are.
    packed : mapping of parameters to shapes, optional
        Flat parameters that hold several tensors one after another.

    Notes
    -----
    A step takes O(m n (m + n)) for an m × n matrix, and memory for two covariances and two bases.

    References
    ----------
    N. Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, arXiv:2409.11321,
    algorithm 3.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        refresh: int = 10,
        largest: int = 1024,
        packed: Mapping[Tensor, Sequence[Shape]] | None = None,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )
        self._refresh, self._largest = refresh, largest
        self._packed = dict(packed or {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Move all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    self._start(parameter, state, group["betas"][1])
                else:
                    self._move(parameter, state, group)
        return loss

    def _start(self, parameter: Tensor, state: dict[str, Any], decay: float) -> None:
        state["step"] = 0
        state["mean"], state["square"] = (torch.zeros_like(parameter) for _ in range(2))
        state["covariances"], state["bases"] = [], []
        for gradient in self._tensors(parameter, parameter.grad):
            covariances = [
                gradient.new_zeros(n, n) if self._is_turned(gradient, n) else None
                for n in gradient.shape
            ]
            _learn(covariances, gradient, decay)
            state["covariances"].append(covariances)
            state["bases"].append([None if c is None else _eigenvectors(c) for c in covariances])

    def _move(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["step"] += 1
        first, second = group["betas"]
        state["mean"].lerp_(parameter.grad, 1 - first)
        unbias = (1 - first ** state["step"], 1 - second ** state["step"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        views = (parameter, parameter.grad, state["mean"], state["square"])
        tensors = zip(*(self._tensors(parameter, values) for values in views), strict=True)
        for (weights, gradient, mean, square), covariances, bases in zip(
            tensors, state["covariances"], state["bases"], strict=True
        ):
            turned = _turn(gradient, bases)
            square.lerp_(turned * turned, 1 - second)
            direction = _turn(mean, bases) / unbias[0]
            direction /= (square / unbias[1]).sqrt_().add_(group["eps"])
            weights.sub_(_turn(direction, bases, back=True), alpha=group["lr"])
            _learn(covariances, gradient, second)
            if state["step"] % self._refresh == 0:
                _improve(bases, covariances, square)

    def _tensors(self, parameter: Tensor, values: Tensor) -> list[Tensor]:
        """Views of the tensors that a parameter, or something of its shape, consists of."""
        shapes = self._packed.get(parameter)
        if shapes is None:
            return [values]
        pieces = values.split([math.prod(shape) for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def _is_turned(self, gradient: Tensor, length: int) -> bool:
        return gradient.ndim > 1 and 1 < length <= self._largest


def _turn(values: Tensor, bases: Sequence[Tensor | None], *, back: bool = False) -> Tensor:
    """Every axis into its basis, or back. Contracting the first axis puts it last each time."""
    for basis in bases:
        if basis is None:
            values = values.movedim(0, -1)
        else:
            values = torch.tensordot(values, basis, dims=([0], [1 if back else 0]))
    return values


def _learn(covariances: Sequence[Tensor | None], gradient: Tensor, decay: float) -> None:
    for axis, covariance in enumerate(covariances):
        if covariance is not None:
            rows = gradient.movedim(axis, 0).flatten(1)
            covariance.lerp_(rows @ rows.T, 1 - decay)


def _eigenvectors(covariance: Tensor) -> Tensor:
    """In falling order of the eigenvalues."""
    return torch.linalg.eigh(covariance.double()).eigenvectors.flip(-1).to(covariance)


def _improve(
    bases: list[Tensor | None], covariances: Sequence[Tensor | None], square: Tensor
) -> None:
    """One step of orthogonal iteration, in which columns keep the squares that belong to them."""
    for axis, (basis, covariance) in enumerate(zip(bases, covariances, strict=True)):
        if basis is None or covariance is None:
            continue
        order = (basis * (covariance @ basis)).sum(0).argsort(descending=True, stable=True)
        square.copy_(square.index_select(axis, order))
        bases[axis] = torch.linalg.qr(covariance @ basis[:, order]).Q
