"""SOAP against Adam, and what turning the weights may not change."""

import io

import pytest
import torch
from torch import Tensor, nn

from asesc.models import LocalCharges, packed_shapes
from asesc.training.soap import SOAP


def gradients(*shape: int, steps: int = 30, seed: int = 0) -> Tensor:
    """A sequence of gradients of one shape."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, *shape, dtype=torch.float64, generator=generator)


def walk(sequence: Tensor, *, packed: list[tuple[int, ...]] | None = None, **keywords) -> Tensor:
    """Where a parameter that starts at zero goes."""
    parameter = nn.Parameter(torch.zeros_like(sequence[0]))
    shapes = {} if packed is None else {parameter: packed}
    optimiser = SOAP([parameter], lr=0.01, packed=shapes, **keywords)
    for gradient in sequence:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach()


def rotation(n: int, seed: int) -> Tensor:
    """An orthogonal matrix."""
    return torch.linalg.qr(gradients(n, n, steps=1, seed=seed)[0])[0]


@pytest.mark.parametrize("keywords", [{}, {"betas": (0.9, 0.99), "weight_decay": 0.1}])
def test_of_vectors_is_adamw(keywords: dict) -> None:
    sequence = gradients(7)
    theirs = nn.Parameter(torch.zeros(7, dtype=torch.float64))
    adamw = torch.optim.AdamW(
        [theirs], lr=0.01, **({"betas": (0.95, 0.95), "weight_decay": 0} | keywords)
    )
    for gradient in sequence[1:]:  # the first only starts the covariances
        theirs.grad = gradient
        adamw.step()
    torch.testing.assert_close(walk(sequence, **keywords), theirs.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(6, 6), (3, 4, 5)])
def test_turned_weights_go_the_turned_way(shape: tuple[int, ...]) -> None:
    # Of this Adam is not capable: it is what makes SOAP blind to the choice of channels.
    sequence = gradients(*shape)
    turned = sequence
    for axis, n in enumerate(shape):
        turned = torch.tensordot(turned, rotation(n, axis), dims=([1], [1]))
    expected = walk(sequence)
    for axis, n in enumerate(shape):
        expected = torch.tensordot(expected, rotation(n, axis), dims=([0], [1]))
    torch.testing.assert_close(walk(turned), expected, rtol=1e-6, atol=1e-9)
    assert expected.abs().max() > 0.01


def test_packed_tensors_are_tensors_of_their_own() -> None:
    first, second = gradients(4, 6, seed=1), gradients(3, 2, 5, seed=2)
    flat = torch.cat([first.flatten(1), second.flatten(1)], dim=1)
    together = walk(flat, packed=[(4, 6), (3, 2, 5)])
    expected = torch.cat([walk(first).flatten(), walk(second).flatten()])
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-15)


def test_flat_weights_of_a_model_are_known_by_their_shapes() -> None:
    backbone = {"elements": [1, 8], "channels": 4}
    model = LocalCharges(backbone=backbone, atomic_energies={1: 0.0, 8: 0.0})
    shapes = packed_shapes(model)
    for parameter, tensors in shapes.items():
        assert parameter.numel() == sum(torch.Size(shape).numel() for shape in tensors)
    flat = {p for name, p in model.named_parameters() if p.ndim == 1 and "mace" in name}
    assert flat == shapes.keys()


def test_correlated_inputs_are_learnt_in_fewer_steps_than_by_adamw() -> None:
    # y = W x with inputs whose spread differs by 10² along axes across the components.
    spread = torch.logspace(0, -2, 8, dtype=torch.float64)
    root = rotation(8, 5) @ torch.diag(spread) @ rotation(8, 5).T
    inputs, true = root @ gradients(8, 8, steps=900, seed=3), gradients(6, 8, steps=1)[0]

    def error(method: type[torch.optim.Optimizer]) -> float:
        weights = nn.Parameter(torch.zeros(6, 8, dtype=torch.float64))
        optimiser = method([weights], lr=0.01, weight_decay=0.0, betas=(0.95, 0.95))
        for x in inputs:
            optimiser.zero_grad()
            ((weights - true) @ x).square().mean().backward()
            optimiser.step()
        return float(((weights.detach() - true) @ root).norm())

    assert error(SOAP) < 0.3 * error(torch.optim.AdamW)


def test_resumed_it_takes_the_same_steps() -> None:
    sequence = gradients(4, 6)
    parameter = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
    optimiser = SOAP([parameter], lr=0.01)
    for step, gradient in enumerate(sequence):
        if step == 13:
            file = io.BytesIO()
            torch.save(optimiser.state_dict(), file)
            file.seek(0)
            parameter = nn.Parameter(parameter.detach().clone())
            optimiser = SOAP([parameter], lr=0.01)
            optimiser.load_state_dict(torch.load(file, weights_only=True))
        parameter.grad = gradient.clone()
        optimiser.step()
    assert torch.equal(parameter.detach(), walk(sequence))
