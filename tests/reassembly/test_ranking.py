"""Zoo models by a training-free score."""

from types import SimpleNamespace

from zoo_search.config import BudgetConfig, SearchConfig
from zoo_search.networks.parents import Parent
from zoo_search.reassembly import rank
from zoo_search.reassembly.proxies import PROXIES


def test_equal_scores_come_in_the_order_of_the_zoo_and_those_without_one_last(zoo, target):
    scores = {"swin": 1.0, "cnn": 2.0, "vit": None, "mlp": 2.0}

    @PROXIES.register("test_by_hand")
    def by_hand(net, batches):
        score = scores[net.recipe.models[0]]
        if score is None:
            raise ValueError("no score today")
        return score

    job = SimpleNamespace(
        seed=0, budget=BudgetConfig(max_params=2e6), search=SearchConfig(batches=1, batch_size=8)
    )
    models = {
        name: Parent(zoo[name].graph, zoo[name].transform) for name in ("swin", "vit", "cnn", "mlp")
    }
    try:
        rows = rank(models, target, 4, "test_by_hand", job)
    finally:
        PROXIES.unregister("test_by_hand")
    assert [row["model"] for row in rows] == ["cnn", "mlp", "swin", "vit"]
    assert [row["score"] for row in rows] == [2.0, 2.0, 1.0, None]
    assert rows[-1]["reason"] == "test_by_hand: no score today"
    assert all(row["in_budget"] == (row["params"] <= 2e6) for row in rows)
