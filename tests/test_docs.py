"""Every example in a docstring is run."""

import doctest
import importlib
import pkgutil

import pytest

import asesc

MODULES = ["asesc", *(m.name for m in pkgutil.walk_packages(asesc.__path__, "asesc."))]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
