"""The convolution of MACE in a few large operations.

e3nn's generated code treats every path of the tensor product by itself, on edges, in some sixty
small operations whose second derivatives fill large arrays with zeros. Here all paths and all
components pass through one batched matrix product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Convolution(nn.Module):
    """Messages m_i = Σ_j x_j ⊗ Y(r̂_ij), each path weighted per edge and channel.

        m_(i,c,k) = Σ_(e → i) w_(e,c,p(k)) Σ_a x_(j,c,a) Σ_b T_(b,k,a) Y_(e,b)

    with T the Clebsch–Gordan coefficients of all paths p, a running over the components of all
    input irreps and k over those of all outputs. Equal to e3nn's ``TensorProduct`` followed by the
    sum over edges, to rounding. O(E·C·K) time and memory.

    Parameters
    ----------
    product : e3nn.o3.TensorProduct
        Without weights of its own; see :func:`is_channelwise`.
    """

    def __init__(self, product: Any) -> None:
        super().__init__()
        self.channels = product.irreps_in1[0].mul
        table, path_of = _coupling_table(product)
        # Constants of the architecture, which a file of weights does not repeat.
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("path_of", path_of, persistent=False)
        into = component_order(product.irreps_in1)
        self.register_buffer("into", into, persistent=False)
        # Argsort inverts the permutation from e3nn's order to components × channels.
        back = component_order(product.irreps_out).argsort()
        self.register_buffer("back", back, persistent=False)

    def forward(
        self, node_feats: Tensor, edge_attrs: Tensor, weights: Tensor, edge_index: Tensor
    ) -> Tensor:
        """Messages on the receiving atoms, in e3nn's layout.

        Parameters
        ----------
        node_feats : Tensor, (N, C·A)
        edge_attrs : Tensor, (E, B)
            Spherical harmonics.
        weights : Tensor, (E, P·C)
        edge_index : Tensor, (2, E)
            Senders and receivers.

        Returns
        -------
        Tensor, (N, C·K)
        """
        n_inputs, n_outputs, n_atoms = self.table.shape[2], self.table.shape[1], node_feats.shape[0]
        features = node_feats.index_select(1, self.into).view(n_atoms, n_inputs, self.channels)
        sent = features.index_select(0, edge_index[0])
        coupling = (edge_attrs @ self.table.flatten(1)).view(-1, n_outputs, n_inputs)
        # Explicit shapes: structures without any edge are structures too.
        n_edges, n_paths = weights.shape[0], weights.shape[1] // self.channels
        strengths = weights.view(n_edges, n_paths, self.channels).index_select(1, self.path_of)
        messages = torch.bmm(coupling, sent) * strengths
        received = messages.new_zeros(n_atoms, n_outputs, self.channels)
        received = received.index_add(0, edge_index[1], messages)
        return received.flatten(1).index_select(1, self.back)


def fuse_convolutions(mace: nn.Module) -> None:
    """Put :class:`Convolution` in place of every tensor product it can replace."""
    for interaction in mace.interactions:
        if is_channelwise(interaction.conv_tp):
            interaction.conv_tp = Convolution(interaction.conv_tp)
            # The attribute by which mace's blocks know that the product also sums over edges.
            interaction.conv_fusion = True


def is_channelwise(product: Any) -> bool:
    """Whether all irreps have the same channels and every path an output of its own."""
    instructions = product.instructions
    channels = {mul for mul, _ in (*product.irreps_in1, *product.irreps_out)}
    return (
        len(channels) == 1
        and all(mul == 1 for mul, _ in product.irreps_in2)
        and all(path.connection_mode == "uvu" and path.has_weight for path in instructions)
        and [path.i_out for path in instructions] == list(range(len(product.irreps_out)))
        and product.weight_numel == len(instructions) * product.irreps_in1[0].mul
    )


def _coupling_table(product: Any) -> tuple[Tensor, Tensor]:
    """T_(b,k,a), (B, K, A), and the path p(k) of every output component, (K,).

    The product itself is asked for every pair of unit inputs in one channel, so that no
    normalisation is written twice.
    """
    channels = product.irreps_in1[0].mul
    n_first, n_second, n_outputs = (
        irreps.dim // irreps[0].mul
        for irreps in (product.irreps_in1, product.irreps_in2, product.irreps_out)
    )
    into = component_order(product.irreps_in1).view(n_first, channels)[:, 0]
    back = component_order(product.irreps_out).view(n_outputs, channels)[:, 0]
    dtype = torch.get_default_dtype()
    first = torch.zeros(n_first, product.irreps_in1.dim, dtype=dtype)
    first[torch.arange(n_first), into] = 1
    second = torch.eye(n_second, dtype=dtype)
    pairs = first.repeat(n_second, 1), second.repeat_interleave(n_first, 0)
    ones = torch.ones(n_second * n_first, product.weight_numel, dtype=dtype)
    table = product(*pairs, ones)[:, back].view(n_second, n_first, n_outputs)
    sizes = torch.tensor([irrep.dim for _, irrep in product.irreps_out])
    path_of = torch.arange(len(sizes)).repeat_interleave(sizes)
    return table.transpose(1, 2).contiguous(), path_of


def component_order(irreps: Any) -> Tensor:
    """Index into e3nn's layout, [channel, component] per irrep, of components × channels."""
    blocks, start = [], 0
    for channels, irrep in irreps:
        block = start + torch.arange(channels * irrep.dim).view(channels, irrep.dim)
        blocks.append(block.T)
        start += channels * irrep.dim
    return torch.cat(blocks).flatten()
