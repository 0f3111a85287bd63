"""What users may write as ``scf={...}``."""

import pytest

from asesc.errors import InputError
from asesc.solvers import SCFOptions


def test_mappings_and_defaults():
    assert SCFOptions.of(None) == SCFOptions()
    options = SCFOptions.of({"tolerance": 1e-9, "max_maps": 50})
    assert options == SCFOptions(tolerance=1e-9, max_maps=50)
    assert SCFOptions.of(options) is options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tolerence": 1e-9}, "no option 'tolerence'. Did you mean 'tolerance'"),
        ({"tolerance": "tight"}, r"scf\['tolerance'\] must be float, got 'tight'"),
        ({"max_maps": 2.5}, r"scf\['max_maps'\] must be int"),
        ({"max_maps": True}, r"scf\['max_maps'\] must be int"),
        ({"tolerance": 0.0}, "must be positive"),
        ({"depth": 0}, "must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        SCFOptions.of(given)
