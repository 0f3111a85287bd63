"""Every family of the table keeps the contract, for every boundary × charge × field it allows."""

import pytest
from builders import NUMBERS, random_model

from asesc.models import FAMILIES
from asesc.testing import check_model
from asesc.testing.structures import ALL_PBC


@pytest.mark.parametrize("pbc", ALL_PBC, ids=lambda p: "".join("FT"[b] for b in p))
@pytest.mark.parametrize("family", FAMILIES)
def test_contract(family, pbc):
    report = check_model(random_model(family), numbers=NUMBERS, boundaries=[pbc])
    assert len(report.deviations) >= 7
    print(report)
