"""What several commands are tested with."""

import pytest
from ase.io import write
from builders import random_model, tiny_card
from teaching import water

import asesc.calculators
from asesc.pretrained import save_model


@pytest.fixture
def calculator(monkeypatch):
    """Let the command find this calculator instead of a model."""

    def use(calc):
        monkeypatch.setattr(asesc.calculators, "SCCalculator", lambda *_, **__: calc)

    return use


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty folder, and the model 'tiny' for molecules and slabs with an example beside it."""
    models = tmp_path / "models"
    model, card = random_model("SplitChargeEquilibration"), tiny_card(boundaries=("open", "slab"))
    save_model(model, models / "tiny", card)
    write(models / "tiny" / "example.xyz", water(0))
    monkeypatch.setenv("ASESC_MODELS", str(models))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work
