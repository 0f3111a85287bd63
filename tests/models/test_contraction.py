"""The symmetric contraction as polynomials against mace's own, derivatives included."""

import pytest
import torch

from asesc.models import backbone as backbone_module
from asesc.models.backbone import Backbone, mace_environment
from asesc.models.contraction import SymmetricContraction

KEYWORDS = {"elements": (8, 14), "channels": 2, "cutoff": 4.0}


def plain_backbone(monkeypatch, **keywords) -> Backbone:
    """The same backbone with mace's contractions left in place."""
    with monkeypatch.context() as patch:
        patch.setattr(backbone_module, "replace_contractions", lambda mace: None)
        return Backbone(**KEYWORDS, **keywords)


def random_input(n_features: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n_features)
    x = torch.randn(4, 2, n_features, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), torch.eye(2, dtype=torch.float64)[[0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("correlation", "hidden_lmax", "edge_lmax"), [(1, 0, 1), (2, 2, 2), (3, 1, 2), (3, 1, 3)]
)
def test_equals_the_contraction_of_mace(monkeypatch, correlation, hidden_lmax, edge_lmax):
    keywords = {"correlation": correlation, "hidden_lmax": hidden_lmax, "edge_lmax": edge_lmax}
    reference = plain_backbone(monkeypatch, **keywords)
    for product in reference.mace.products:
        theirs = product.symmetric_contractions
        with mace_environment():
            ours = SymmetricContraction(theirs)
        x, y = random_input((edge_lmax + 1) ** 2)
        a, b = ours(x, y), theirs(x, y)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        probe = torch.randn_like(a)
        inputs = (x, *theirs.parameters())
        assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
        for ga, gb in zip(
            torch.autograd.grad((a * probe).sum(), inputs),
            torch.autograd.grad((b * probe).sum(), inputs),
            strict=True,
        ):
            torch.testing.assert_close(ga, gb, rtol=1e-11, atol=1e-12)


def test_second_derivatives():
    contraction = Backbone(**KEYWORDS, correlation=3, edge_lmax=1).mace.products[0]
    assert isinstance(contraction.symmetric_contractions, SymmetricContraction)
    x, y = random_input(4)
    torch.autograd.gradgradcheck(
        lambda x: contraction.symmetric_contractions(x, y).sum(0), [x], atol=1e-6
    )


def test_weights_keep_their_names(monkeypatch):
    """Files of weights and checkpoints of mace know them by these."""
    ours, theirs = Backbone(**KEYWORDS), plain_backbone(monkeypatch)
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]
