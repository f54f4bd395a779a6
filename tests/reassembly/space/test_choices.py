"""What there is to choose from."""

import pytest

from zoo_search.core.errors import UserError
from zoo_search.costs import Budget
from zoo_search.reassembly import Space


def test_licenses_leave_models_out(partition, costs):
    space = Space(partition, costs, Budget(licenses=("apache-2.0",)))
    assert space.left_out == {"vit": "mit", "mlp": None}
    assert {b.model for b in space.sets} == {"cnn", "swin"}
    assert {r.models[0] for r in space.zoo} <= {"cnn", "swin"}
    with pytest.raises(
        UserError, match=r"leaves no model.*mlp \(licence not known\).*Did you mean"
    ):
        Space(partition, costs, Budget(licenses=("apache2.0",)))
