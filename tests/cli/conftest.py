"""What several commands are tested with."""

import pytest

import asesc.calculators


@pytest.fixture
def calculator(monkeypatch):
    """Let the command find this calculator instead of a model."""

    def use(calc):
        monkeypatch.setattr(asesc.calculators, "SCCalculator", lambda *_, **__: calc)

    return use
