"""Contrived self-consistent responses on small batches, without any physics behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asesc.system import BlockLayout

Map = Callable[[Tensor], Tensor]


def layout_of(*counts: int) -> BlockLayout:
    """Structures with these numbers of atoms."""
    sizes = torch.tensor(counts)
    return BlockLayout(torch.repeat_interleave(torch.arange(len(counts)), sizes), sizes)


def coupling(n: int, radius: float, kind: str, *, seed: int = 0) -> Tensor:
    """∂F/∂p with spectral radius ``radius``, (n, n).

    ``screening``: symmetric, eigenvalues from −radius to 0, as of −χ J with χ, J ≥ 0;
    ``indefinite``: symmetric, from −radius to +radius, where no damping makes mixing converge;
    ``general``: a random matrix with complex eigenvalues.
    """
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(n, n, dtype=torch.float64, generator=generator)
    if kind == "general":
        return random * (radius / torch.linalg.eigvals(random).abs().max())
    q, _ = torch.linalg.qr(random)
    lowest, highest = -1.0, {"screening": 0.0, "indefinite": 0.93}[kind]
    values = torch.linspace(lowest, highest, n, dtype=torch.float64) ** 3
    return (q * (radius * values)) @ q.T


@dataclass(frozen=True)
class Response:
    """p = p₀ + Σ C p for every structure, saturating at ``limit`` if there is one.

    F(p) = p₀ + limit tanh(C p/limit), with one matrix C (n·M, n·M) per structure.
    """

    layout: BlockLayout
    couplings: Sequence[Tensor]
    constant: Tensor
    limit: float | None = None

    @classmethod
    def of(
        cls,
        counts: Sequence[int],
        radii: Sequence[float],
        *,
        kind: str = "screening",
        components: int = 2,
        limit: float | None = None,
    ) -> Response:
        """One structure per count, with the spectral radius of its linear part."""
        matrices = [
            coupling(n * components, radius, kind, seed=n)
            for n, radius in zip(counts, radii, strict=True)
        ]
        generator = torch.Generator().manual_seed(7)
        constant = torch.randn(sum(counts), components, dtype=torch.float64, generator=generator)
        return cls(layout_of(*counts), matrices, constant, limit)

    def residual(self, p: Tensor) -> Tensor:
        """p − F(p), (N, M)."""
        counts = self.layout.mask.sum(-1).tolist()
        pieces = [
            (matrix @ part.reshape(-1)).reshape(part.shape)
            for matrix, part in zip(self.couplings, p.split(counts), strict=True)
        ]
        answer = torch.cat(pieces)
        if self.limit is not None:
            answer = self.limit * torch.tanh(answer / self.limit)
        return p - self.constant - answer

    def jacobian(self, p: Tensor) -> Tensor:
        """∂r/∂p as blocks with rubbish in the padding."""
        whole = torch.autograd.functional.jacobian(self.residual, p)
        counts, components = self.layout.mask.sum(-1).tolist(), p.shape[1]
        n_structures, n = self.layout.shape
        blocks = torch.full((n_structures, n * components, n * components), 7.0).to(p)
        first = 0
        for b, count in enumerate(counts):
            inside = slice(first, first + count)
            block = whole[inside, :, inside].reshape(count * components, -1)
            blocks[b, : len(block), : len(block)] = block
            first += count
        return blocks

    def part(self, b: int) -> Response:
        """Structure b alone."""
        counts = self.layout.mask.sum(-1).tolist()
        constant = self.constant.split(counts)[b]
        return Response(layout_of(counts[b]), [self.couplings[b]], constant, self.limit)


def graph_size(tensor: torch.Tensor) -> int:
    """Nodes of the graph behind a tensor."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(function for function, _ in node.next_functions)
    return len(seen)
