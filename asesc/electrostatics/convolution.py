"""Convolution of densities on a mesh with a Green function, and its derivatives by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asesc.electrostatics.mesh_transform import MeshTransform


class Convolution(torch.autograd.Function):
    """ρ → φ with φ̂_r = d_r G Σ_s d_s ρ̂_s for sources s and receivers r of different widths.

    ``None`` stands for one width whose factor is part of G. The adjoint swaps the two.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mesh: Tensor,
        green: Tensor,
        source: Tensor | None,
        receiver: Tensor | None,
        transform: MeshTransform,
    ) -> Tensor:
        ctx.save_for_backward(mesh, green, source, receiver)
        ctx.transform = transform
        total = summed(transform.forward(mesh), source) * green
        return transform.inverse(shared(total, receiver))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mesh, green, source, receiver = ctx.saved_tensors
        on_mesh = None
        if ctx.needs_input_grad[0]:
            on_mesh = Convolution.apply(gradient, green, receiver, source, ctx.transform)
        if not any(ctx.needs_input_grad[1:]):
            return on_mesh, None, None, None, None
        parts = _kernel_gradient(mesh, gradient, green, source, receiver, ctx.transform)
        return on_mesh, *parts, None


class MeshEnergy(torch.autograd.Function):
    """½ Σ_g ρ_g φ_g of every structure, ½ Σ_k G|ρ̂|²/n: without a field unless it is derived."""

    @staticmethod
    def forward(
        ctx: Any, mesh: Tensor, green: Tensor, damping: Tensor | None, transform: MeshTransform
    ) -> Tensor:
        ctx.save_for_backward(mesh, green, damping)
        ctx.transform, ctx.waves = transform, transform.forward(mesh)
        ctx.total = summed(ctx.waves, damping)
        return wave_energy(ctx.total, green, transform)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        mesh, green, damping = ctx.saved_tensors
        scale, transform = gradient[:, None, None, None], ctx.transform
        if torch.is_grad_enabled():  # a second derivative will be asked for
            on_mesh = scale * Convolution.apply(mesh, green, damping, damping, transform)
            if not any(ctx.needs_input_grad[1:]):
                return on_mesh, None, None, None
            on_green, as_source, as_receiver = _kernel_gradient(
                mesh, 0.5 * scale * mesh, green, damping, damping, transform
            )
            return on_mesh, on_green, None if as_source is None else as_source + as_receiver, None
        field = scale * green * ctx.total
        on_mesh = transform.inverse(shared(field, damping))
        on_green = on_damping = None
        if ctx.needs_input_grad[1]:
            power = ctx.total.real.square() + ctx.total.imag.square()
            on_green = 0.5 * scale * transform.weight * power
        if ctx.needs_input_grad[2]:
            on_damping = transform.weight * (field.conj() * ctx.waves).real
        return on_mesh, on_green, on_damping, None


def _kernel_gradient(
    mesh: Tensor,
    seen: Tensor,
    green: Tensor,
    source: Tensor | None,
    receiver: Tensor | None,
    transform: MeshTransform,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Derivatives of Σ (seen · φ) with respect to G and both dampings."""
    emitted, absorbed = transform.forward(mesh), transform.forward(seen)
    total, total_seen = summed(emitted, source), summed(absorbed, receiver)
    on_source = on_receiver = None
    if source is not None:
        on_source = transform.weight * green * (total_seen.conj() * emitted).real
    if receiver is not None:
        on_receiver = transform.weight * green * (absorbed.conj() * total).real
    return transform.weight * (total_seen.conj() * total).real, on_source, on_receiver


def wave_energy(total: Tensor, green: Tensor, transform: MeshTransform) -> Tensor:
    """½ Σ_k G|ρ̂|²/n of every structure."""
    parts = torch.view_as_real(total)
    power = (0.5 * transform.weight * green)[..., None] * parts * parts
    return power.flatten(1).sum(1)


def summed(spectra: Tensor, damping: Tensor | None) -> Tensor:
    """Waves of all widths together, (widths, B, …) → (B, …)."""
    return spectra[0] if damping is None else (damping * spectra).sum(0)


def shared(spectrum: Tensor, damping: Tensor | None) -> Tensor:
    """One set of waves as every width sees it, (B, …) → (widths, B, …): the adjoint of summed."""
    return spectrum[None] if damping is None else damping * spectrum
