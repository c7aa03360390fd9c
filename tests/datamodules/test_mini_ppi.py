"""The small PPI: its sizes, its labels recomputed node by node, its seeds."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.mini_ppi import MiniPPIDataModule, generate, neighbourhood, neighbours
from harness.errors import UserError


def made(**changed: Any) -> MiniPPIDataModule:
    settings: dict[str, Any] = {"in_channels": 16, "num_classes": 10, "target": "node_multi_label"}
    settings |= {"folds": 1, "protocol": "gin", "graph_seed": 0, "self_loops": True}
    data = MiniPPIDataModule(**{**settings, "batch_size": 2, "seed": 0, **changed})
    data.prepare_data()
    data.setup()
    return data


def test_eight_graphs_are_trained_on_and_two_each_kept_for_validation_and_test() -> None:
    data = made()
    assert {split: part.index.tolist() for split, part in data.splits.items()} == {
        "train": list(range(8)),
        "val": [8, 9],
        "test": [10, 11],
    }
    for part in data.splits.values():
        assert part.of_nodes
        assert part.ptr.diff().unique().tolist() == [120]
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].shape == (240, 16)
    assert batch["y"].shape == (240, 10)
    assert len(list(data.train_dataloader())) == 4


def test_a_node_has_as_many_neighbours_as_the_specification_says() -> None:
    degrees = torch.cat([generate(seed, self_loops=False).in_degree for seed in range(4)]).double()
    assert float(degrees.mean()) == pytest.approx(6.4, abs=0.2)
    looped = generate(0, self_loops=True)
    assert int(looped.in_degree.sum()) == int(generate(0, self_loops=False).in_degree.sum()) + 1440


def test_neighbours_are_near_and_everyone_is_its_own() -> None:
    near = neighbours(np.random.default_rng(3))
    places = np.random.default_rng(3).random((120, 2))
    for one in range(120):
        for other in range(120):
            assert near[one, other] == (math.dist(places[one], places[other]) < 0.14)


def test_the_neighbourhood_is_an_average_weighted_by_likeness_taken_twice() -> None:
    generator = np.random.default_rng(5)
    near, latent = neighbours(generator), generator.standard_normal((120, 6))

    def step(held: np.ndarray) -> np.ndarray:
        rows = []
        for node in range(120):
            around = near[node].nonzero()[0]
            weights = np.array([math.exp(2 * latent[node] @ latent[j] / math.sqrt(6)) for j in around])
            rows.append(weights @ held[around] / weights.sum())
        return np.stack(rows)

    np.testing.assert_allclose(neighbourhood(latent, near), step(step(latent)), rtol=1e-10)


def test_labels_and_features_follow_from_the_latents_that_were_drawn() -> None:
    generator = np.random.default_rng(7)
    shown, around, own = (generator.standard_normal((6, width)) for width in (16, 10, 10))
    near, latent = neighbours(generator), generator.standard_normal((120, 6))
    noise = generator.standard_normal((120, 16))
    first = generate(7, self_loops=True).batch(torch.tensor([0]))
    labels = neighbourhood(latent, near) @ around + 0.5 * latent @ own > 0.5
    assert np.array_equal(first["y"].numpy(), labels)
    features = latent @ shown / math.sqrt(6) + 0.3 * noise
    np.testing.assert_allclose(first["x"].numpy(), features, atol=1e-6)
    source, target = first["edge_index"].numpy()
    joined = np.zeros((120, 120), dtype=bool)
    joined[target, source] = True
    assert np.array_equal(joined, near)


def test_labels_are_neither_rare_nor_common() -> None:
    for seed in range(4):
        share = generate(seed, self_loops=True).y.mean(dim=0)
        assert 0.1 < float(share.min()) <= float(share.max()) < 0.6
        assert 0.3 < float(share.mean()) < 0.5


def test_the_graphs_follow_from_their_own_seed_alone() -> None:
    torch.manual_seed(1)
    first = made().splits["train"]
    torch.manual_seed(2)
    np.random.seed(2)
    again, other = made(seed=9).splits["train"], made(graph_seed=1).splits["train"]
    for name in ("x", "y", "edge_index"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.x, other.x)


def test_facts_that_the_data_contradict_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.num_classes=9 .* num_classes=10"):
        made(num_classes=9)
