"""Contract checks for boundaries and model families, run by our tests and by yours.

A new boundary or family is right if its derivatives agree with finite differences of its energy
and if it does not notice how the structure was written down. The checks measure that on small
random structures and return every number they measured:

    from asesc.testing import check_model

    print(check_model(MyFamily(backbone={"elements": [1, 8], "cutoff": 4.0})))
"""

from asesc.testing.boundaries import check_boundary
from asesc.testing.models import check_model
from asesc.testing.report import ContractError, ContractReport, Deviation
from asesc.testing.structures import accepted_pbc, example_system

__all__ = [
    "ContractError",
    "ContractReport",
    "Deviation",
    "accepted_pbc",
    "check_boundary",
    "check_model",
    "example_system",
]
