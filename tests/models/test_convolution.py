"""The convolution in few operations against e3nn's own, derivatives included."""

import pytest
import torch

from asesc.models import backbone as backbone_module
from asesc.models.backbone import Backbone, mace_environment
from asesc.models.convolution import Convolution, is_channelwise

KEYWORDS = {"elements": (8, 14), "channels": 3, "cutoff": 4.0}


def plain_backbone(monkeypatch, **keywords) -> Backbone:
    """The same backbone with e3nn's products left in place."""
    with monkeypatch.context() as patch:
        patch.setattr(backbone_module, "fuse_convolutions", lambda mace: None)
        return Backbone(**KEYWORDS, **keywords)


@pytest.mark.parametrize(("hidden_lmax", "edge_lmax"), [(0, 1), (1, 2), (1, 3), (2, 3)])
def test_equals_the_tensor_product_and_sum(monkeypatch, hidden_lmax, edge_lmax):
    reference = plain_backbone(monkeypatch, hidden_lmax=hidden_lmax, edge_lmax=edge_lmax)
    generator = torch.Generator().manual_seed(hidden_lmax + 10 * edge_lmax)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n_atoms, n_edges = 5, 40
    edges = torch.randint(n_atoms, (2, n_edges), generator=generator)
    for interaction in reference.mace.interactions:
        product = interaction.conv_tp
        features, harmonics, weights = (
            random(*shape).requires_grad_()
            for shape in (
                (n_atoms, product.irreps_in1.dim),
                (n_edges, product.irreps_in2.dim),
                (n_edges, product.weight_numel),
            )
        )
        with mace_environment():
            convolution = Convolution(product)
        ours = convolution(features, harmonics, weights, edges)
        messages = product(features[edges[0]], harmonics, weights)
        theirs = messages.new_zeros(ours.shape).index_add(0, edges[1], messages)
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)
        probe = random(*ours.shape)
        inputs = (features, harmonics, weights)
        for a, b in zip(
            torch.autograd.grad((ours * probe).sum(), inputs),
            torch.autograd.grad((theirs * probe).sum(), inputs),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_second_derivatives(monkeypatch):
    product = plain_backbone(monkeypatch).mace.interactions[1].conv_tp
    with mace_environment():
        convolution = Convolution(product)
    generator = torch.Generator().manual_seed(3)
    edges = torch.tensor([[0, 1, 1], [1, 0, 1]])
    shapes = ((2, product.irreps_in1.dim), (3, product.irreps_in2.dim), (3, product.weight_numel))
    inputs = [
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes
    ]
    torch.autograd.gradgradcheck(lambda *x: convolution(*x, edges), inputs, atol=1e-6)


def test_every_convolution_of_a_backbone_is_replaced():
    for interaction in Backbone(**KEYWORDS).mace.interactions:
        assert isinstance(interaction.conv_tp, Convolution)


def test_products_of_another_kind_are_left_alone():
    """Different channels per irrep would need another layout."""
    with mace_environment():
        from e3nn import o3

        mixed = o3.FullyConnectedTensorProduct("4x0e + 2x1o", "1x0e + 1x1o", "4x0e + 2x1o")
    assert not is_channelwise(mixed)
