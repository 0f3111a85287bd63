"""Commands as a user types them."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from asesc.cli import app, main

PNG = b"\x89PNG"


def asesc(*arguments: str) -> str:
    """Run a command that must succeed; what it printed."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(capsys, monkeypatch, *arguments: str) -> str:
    """Run a command that must end with exit code 2 and one message, which is returned."""
    monkeypatch.setattr(sys, "argv", ["asesc", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("error: ") == 1
    return captured.err
