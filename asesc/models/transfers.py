"""Charge that moves along edges: what the families with edge transfers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from asesc.models.backbone import Features
from asesc.models.base import Model
from asesc.models.moments import excess_charge, json_table
from asesc.models.readouts import EdgeScalars
from asesc.system import System


class TransferModel(Model):
    """A family whose atoms start from formal charges and exchange charge along edges.

    Parameters
    ----------
    formal_charges : mapping of int or symbol to float, e, optional
        q⁰ per element, default 0; a total charge beyond their sum is divided over the atoms with
        learned positive weights. Give those of the ions that a bond breaks into, whole numbers:
        without them a breaking bond has to lose its charge within tenths of an ångström, as what
        passes along an edge dies off with its length, and its Born charges take the wrong sign.
    edge_radials : int
        Radial functions that the edge heads see. Few keep what passes along an edge smooth at
        lengths that the training data lack, such as those of a bond that is just breaking.
    **common
        See :class:`~asesc.models.base.Model`.
    """

    has_itinerant_polarisation: ClassVar[bool] = True

    def __init__(
        self,
        *,
        formal_charges: Mapping[int | str, float] | None = None,
        edge_radials: int = 8,
        **common: Any,
    ) -> None:
        table = formal_charges or {}
        own = {"formal_charges": json_table(table), "edge_radials": edge_radials}
        super().__init__(own=own, **common)
        self._edge_radials = edge_radials
        self.register_buffer("_formal", self._per_element(table, default=0.0))

    def edge_scalars(self, outputs: int) -> EdgeScalars:
        """A new head that makes ``outputs`` numbers of every edge."""
        backbone = self.backbone
        return EdgeScalars(
            backbone.n_scalars,
            backbone.n_vectors,
            self.cutoff,
            outputs=outputs,
            radials=self._edge_radials,
        )

    def formal_charges(self, system: System, weights: Tensor) -> Tensor:
        """q⁰ of every atom with the rest of the total charge divided by ``weights``, (N,), e."""
        formal = self._formal[self.backbone.index_of(system.numbers)]
        return formal + excess_charge(system, formal, weights)


def itinerant_dipole(
    system: System,
    features: Features,
    formal: Tensor,
    transfers: Tensor,
    dipoles: Tensor | None,
) -> Tensor:
    """μ = Σ_i (q⁰_i r_i + d_i) + ½ Σ_(directed ij) t_ij (r_i − r_j), (B, 3), e Å.

    Parameters
    ----------
    formal : Tensor, (N,), e
    transfers : Tensor, (E,), e
        Charge moved to i from j on every directed edge, t_ji = −t_ij.
    dipoles : Tensor, (N, 3), e Å, optional
    """
    moments = formal[:, None] * system.positions
    if dipoles is not None:
        moments = moments + dipoles
    flow = -0.5 * transfers[:, None] * features.edge_vectors
    return system.sum(moments.index_add(0, features.edges.source, flow))
