"""The symmetric contraction of MACE as polynomials.

mace contracts one index after another, per atom, channel and element, with intermediate arrays of
(2l+1)·9·9 numbers. Products of features commute, so the same answer is a polynomial in the few
features of one channel: its monomials are made once and meet the coupling coefficients in one
matrix product per degree.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from asesc.errors import InputError

#: Part of a coupling that may lie outside a span before it is another one; float32 leaves 1e-7.
_OUTSIDE = 1e-5


class SymmetricContraction(nn.Module):
    """Higher-order features B_m = Σ_ν Σ_k W_ν,k(z, c) Σ_(i1…iν) U_ν[m, i1…iν, k] x_i1 … x_iν.

    With U summed over the permutations of its indices, only ordered tuples i1 ≤ … ≤ iν remain,
    (n+ν−1 choose ν) monomials: 9, 45 and 165 for l ≤ 2 and ν = 1, 2, 3. Equal to mace's
    contraction to rounding. O(N·C·monomials·paths) time.

    Parameters
    ----------
    original : mace.modules.symmetric_contraction.SymmetricContraction
        Keeps the weights, under their names.

    References
    ----------
    I. Batatia et al., MACE, arXiv:2206.07697, equations 10 and 11.
    """

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.contractions = original.contractions
        self._degrees = [_degrees(contraction) for contraction in self.contractions]
        n_features = self.contractions[0].U_tensors(1).shape[-2]
        tuples = _ordered_tuples(n_features, max(max(degrees) for degrees in self._degrees))
        for nu, (left, right) in _factors(tuples).items():
            self.register_buffer(f"left_{nu}", left, persistent=False)
            self.register_buffer(f"right_{nu}", right, persistent=False)
        for index, (contraction, degrees) in enumerate(
            zip(self.contractions, self._degrees, strict=True)
        ):
            for nu in degrees:
                table = _table(contraction.U_tensors(nu), tuples[nu])
                self.register_buffer(f"table_{index}_{nu}", table, persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Features of every atom in e3nn's layout.

        Parameters
        ----------
        x : Tensor, (N, C, n)
        y : Tensor, (N, elements)
            One-hot.

        Returns
        -------
        Tensor, (N, Σ_out C·(2l+1))
        """
        monomials = self._monomials(x.permute(2, 0, 1).flatten(1))
        outputs = []
        for index, degrees in enumerate(self._degrees):
            total = sum(self._of_degree(index, nu, monomials[nu], x, y) for nu in degrees)
            outputs.append(total.permute(1, 2, 0).flatten(1))
        return torch.cat(outputs, -1)

    def _monomials(self, rows: Tensor) -> dict[int, Tensor]:
        """All ordered products of ν rows, (monomials, N·C) for every degree ν."""
        found, nu = {1: rows}, 2
        while hasattr(self, f"left_{nu}"):
            left, right = getattr(self, f"left_{nu}"), getattr(self, f"right_{nu}")
            found[nu] = found[nu - 1].index_select(0, left) * rows.index_select(0, right)
            nu += 1
        return found

    def _of_degree(self, index: int, nu: int, monomials: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Σ_k W_k (table · monomials)_(m,k), (2l+1, N, C)."""
        weights = _weights(self.contractions[index], nu)
        n_paths = weights.shape[1]
        of_atom = (y @ weights.flatten(1)).view(y.shape[0], n_paths, -1).transpose(0, 1)
        table = getattr(self, f"table_{index}_{nu}")
        coupled = (table @ monomials).view(-1, n_paths, x.shape[0], x.shape[1])
        return (coupled * of_atom).sum(1)


def replace_contractions(mace: nn.Module) -> None:
    """Put :class:`SymmetricContraction` in place of mace's."""
    for product in mace.products:
        product.symmetric_contractions = SymmetricContraction(product.symmetric_contractions)


def translated_weights(own: nn.Module, given: nn.Module) -> dict[str, Tensor]:
    """Weights of the contractions of ``given`` where its couplings differ from those of ``own``.

    mace writes the same polynomials in one of two ways. Trained where cuequivariance is installed,
    U' is a basis of the symmetric couplings, and the checkpoint keeps it; elsewhere U has products
    of Clebsch–Gordan coefficients, more than are needed. Summed over the permutations of indices
    both span the same space, U' = U A, so that the weights W = A W' compute the same features.

    Parameters
    ----------
    own, given : mace.modules.MACE
        Of the same architecture.

    Returns
    -------
    dict of str to Tensor, (elements, paths, C)
        By the parameter's name in ``own``, to the precision of the couplings in ``given``.

    Raises
    ------
    InputError
        If the couplings span another space.
    """
    found, names = {}, {weight: name for name, weight in own.named_parameters()}
    for name, mine in own.named_modules():
        if not hasattr(mine, "U_tensors"):
            continue
        theirs = given.get_submodule(name)
        for nu in range(1, mine.correlation + 1):
            change = _change_of_basis(mine.U_tensors(nu), theirs.U_tensors(nu), nu)
            if change is None:
                continue
            weights = _weights(theirs, nu).detach().double().cpu()
            found[names[_weights(mine, nu)]] = torch.einsum("kp,epc->ekc", change, weights)
    return found


def _change_of_basis(own: Tensor, given: Tensor, nu: int) -> Tensor | None:
    """A of :func:`translated_weights` for one degree, (paths, paths'); None for the same U."""
    own, given = own.detach().double().cpu(), given.detach().double().cpu()
    if own.shape == given.shape and torch.allclose(own, given, rtol=_OUTSIDE):
        return None
    tuples = _ordered_tuples(own.shape[-2], nu)[nu]
    mine, theirs = (
        _table(u, tuples).unflatten(0, (-1, u.shape[-1])).movedim(1, -1).flatten(0, 1)
        for u in (own, given)
    )
    change = torch.linalg.pinv(mine, rtol=1e-10) @ theirs
    if float((mine @ change - theirs).norm()) > _OUTSIDE * float(theirs.norm()):
        raise InputError(
            f"the couplings of degree {nu} in the MACE module do not span those of its "
            "architecture; such a modified module cannot be used"
        )
    return change


def _degrees(contraction: Any) -> list[int]:
    """Degrees whose coupling does not vanish by symmetry."""
    degrees = range(1, contraction.correlation + 1)
    return [nu for nu in degrees if bool(contraction.U_tensors(nu).any())]


def path_weights(contraction: Any) -> list[Tensor]:
    """Weights of all degrees whose coupling does not vanish, the highest first."""
    return [_weights(contraction, nu) for nu in reversed(_degrees(contraction))]


def _weights(contraction: Any, nu: int) -> Tensor:
    """(elements, paths, C); mace keeps the highest degree apart and the others downwards."""
    if nu == contraction.correlation:
        return contraction.weights_max
    return contraction.weights[contraction.correlation - 1 - nu]


def _ordered_tuples(n: int, highest: int) -> dict[int, list[tuple[int, ...]]]:
    """All i1 ≤ … ≤ iν below ``n``, for every ν up to ``highest``."""
    found = {1: [(i,) for i in range(n)]}
    for nu in range(2, highest + 1):
        found[nu] = [(*head, i) for head in found[nu - 1] for i in range(head[-1], n)]
    return found


def _factors(tuples: dict[int, list[tuple[int, ...]]]) -> dict[int, tuple[Tensor, Tensor]]:
    """Every monomial as one of the degree below times one feature."""
    found = {}
    for nu in range(2, max(tuples) + 1):
        place = {indices: row for row, indices in enumerate(tuples[nu - 1])}
        left = torch.tensor([place[indices[:-1]] for indices in tuples[nu]])
        right = torch.tensor([indices[-1] for indices in tuples[nu]])
        found[nu] = left, right
    return found


def _table(coupling: Tensor, tuples: list[tuple[int, ...]]) -> Tensor:
    """U summed over the permutations of its indices, ((2l+1)·paths, monomials)."""
    nu = len(tuples[0])
    if coupling.ndim == nu + 1:  # mace leaves out the axis of a scalar output
        coupling = coupling[None]
    columns = []
    for indices in tuples:
        entries = [coupling[(slice(None), *order)] for order in set(permutations(indices))]
        columns.append(torch.stack(entries).sum(0).flatten())
    return torch.stack(columns, -1)
