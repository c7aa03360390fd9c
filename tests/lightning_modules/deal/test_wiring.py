"""That each key reaches the part it is for, and that a round begins with what it should."""

import logging
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from harness.phases import phase_seed
from lightning_modules.deal.module import Deal
from lightning_modules.deal.scoring import Acquisition
from lightning_modules.segmentation.networks import Segmenter
from tests.lightning_modules.deal.deal_runs import FEW, ROUNDS, deal_of, fitted
from tests.small_runs import configuration

SETTINGS: dict[str, Any] = {
    key: value
    for key, value in configuration("model=deal", *FEW, *ROUNDS)["model"].items()
    if key != "_target_"
}
SHARES = {
    "deal_ds": 0.5,
    "deal_de": 0.5,
    "random": 0.5,
    "entropy": 0.5,
    "margin": 0.5,
    "least_confidence": 0.5,
    "qbc": 0.4,
    "coreset": 0.4,
}
"""Of the unlabelled images: DEAL's code."""


def made(**changed: Any) -> Deal:
    torch.manual_seed(0)
    return Deal(**SETTINGS | changed)


@pytest.mark.parametrize("acquisition", get_args(Acquisition))
def test_a_round_looks_at_the_share_of_the_authors(acquisition: Acquisition) -> None:
    assert made(acquisition=acquisition).share == SHARES[acquisition]
    assert made(acquisition=acquisition, candidates=0.7).share == 0.7


# --- what the branch is made of


def with_slopes(module: Deal) -> tuple[Tensor, Tensor, Tensor]:
    """Difficulty of a batch, and the sum of its slopes by the scores and by the features."""
    generator = torch.Generator().manual_seed(1)
    classes, channels = module.num_classes, module.network.feature_channels
    scores = torch.randn(2, classes, 16, 24, generator=generator, requires_grad=True)
    features = torch.randn(2, channels, 16, 24, generator=generator, requires_grad=True)
    assert module.branch is not None
    difficulty: Tensor = module.branch.eval()(scores, features, (16, 24))
    difficulty.square().sum().backward()
    slopes = (torch.tensor(0.0) if one.grad is None else one.grad.abs().sum() for one in (scores, features))
    return difficulty, *slopes


def test_as_it_comes_the_branch_looks_at_the_scores_by_attention_and_teaches_the_segmentation() -> None:
    module = made()
    assert module.branch is not None
    assert module.branch.attention
    assert module.branch.gamma.shape == (1,)
    _, scores, features = with_slopes(module)
    assert scores > 0
    assert features == 0


def test_without_attention_there_is_no_gamma_and_all_else_is_as_before() -> None:
    module = made(attention=False)
    assert [name for name, _ in module.named_parameters() if "gamma" in name] == []
    _, scores, features = with_slopes(module)
    assert scores > 0
    assert features == 0


@pytest.mark.parametrize("difficulty_from", ["scores", "features"])
def test_a_detached_branch_has_no_slope_by_what_it_is_given(difficulty_from: str) -> None:
    module = made(detach_difficulty=True, difficulty_from=difficulty_from)
    assert module.branch is not None
    assert module.branch.attention
    _, scores, features = with_slopes(module)
    assert (scores, features) == (0, 0)


def test_from_the_features_the_scores_of_the_segmentation_are_not_looked_at() -> None:
    _, scores, features = with_slopes(made(difficulty_from="features"))
    assert scores == 0
    assert features > 0


@pytest.mark.parametrize("att_stride", [1, 5])
def test_the_grid_of_the_attention_has_the_stride_that_is_named(att_stride: int) -> None:
    module = made(att_stride=att_stride)
    assert module.branch is not None
    assert module.branch.grid((20, 30)) == (20 // att_stride, 30 // att_stride)


@pytest.mark.parametrize(
    ("num_classes", "difficulty_from", "own"),
    [
        (2, "auto", True),
        (2, "scores", False),
        (2, "features", True),
        (3, "auto", False),
        (6, "auto", False),
        (6, "features", True),
    ],
)
def test_of_two_classes_the_branch_starts_from_the_features(
    num_classes: int, difficulty_from: str, own: bool
) -> None:
    module = made(num_classes=num_classes, difficulty_from=difficulty_from)
    assert module.branch is not None
    assert (module.branch.own_scores is not None) is own


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"num_classes": 2, "difficulty_from": "scores"}, True),
        ({"num_classes": 2, "difficulty_from": "auto"}, False),
        ({"num_classes": 2, "difficulty_from": "scores", "acquisition": "entropy"}, False),
        ({"num_classes": 6, "difficulty_from": "scores"}, False),
    ],
)
def test_the_scores_of_two_classes_are_warned_of(
    changed: dict[str, Any], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from harness.build import build_datamodule

    data = build_datamodule(configuration("model=deal", *FEW))
    module = made(**changed)
    with caplog.at_level(logging.WARNING, "tenfold"):
        module.on_phase_start(data)
        module.phase_index = 1
        module.on_phase_start(data)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == int(told)
    if told:
        assert lines[0].startswith("model.difficulty_from=scores: of two classes the branch sees p and 1 - p")
        assert lines[0].endswith("Set model.difficulty_from=features.")


# --- what a round begins with


def test_a_later_round_begins_with_weights_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: dict[int, list[dict[str, Tensor]]] = {}
    real = Deal.on_phase_start

    def state_of(module: Deal) -> dict[str, Tensor]:
        named = [*module.network.named_parameters(), *module.network.named_buffers()]
        assert module.branch is not None
        named += [(f"branch.{name}", value) for name, value in module.branch.named_parameters()]
        return {name: value.detach().clone() for name, value in named}

    def watched(self: Deal, datamodule: Any) -> None:
        before = state_of(self)
        real(self, datamodule)
        states[self.round] = [before, state_of(self)]

    monkeypatch.setattr(Deal, "on_phase_start", watched)
    done = fitted(tmp_path / "run", "trainer.max_epochs=1")
    torch.manual_seed(phase_seed(done.config["seed"], 1))
    deal_of(done).start_anew()
    expected = state_of(deal_of(done))
    for number in (2, 3):
        before, after = states[number]
        assert before["branch.gamma"].any(), "what was learnt"
        assert not after["branch.gamma"].any()
        drawn = [name for name, value in after.items() if value.ndim == 4]
        assert drawn
        assert not any(torch.equal(before[name], after[name]) for name in drawn)
        assert not any(after[name].any() for name in after if name.endswith("num_batches_tracked"))
    assert all(torch.equal(states[2][1][name], value) for name, value in expected.items())


def test_every_round_begins_with_the_published_weights_where_some_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from harness.build import build_datamodule

    asked: list[tuple[str, str, str]] = []

    def put(network: Segmenter, weights: str, root: str, cache: str) -> None:
        asked.append((weights, root, cache))
        for parameter in network.backbone().parameters():
            nn.init.constant_(parameter, 0.5)

    monkeypatch.setattr("lightning_modules.segmentation.module.load_backbone", put)
    data = build_datamodule(configuration("model=deal", *FEW))
    places = {"root": "sets", "cache": "kept"}
    module = made(network="deeplab_mobilenet", weights="IMAGENET1K_V1", **places)
    for number in range(3):
        for parameter in module.network.parameters():
            nn.init.constant_(parameter, 3.0)  # what training made of them
        module.phase_index = number
        module.on_phase_start(data)
        assert len(asked) == number + 1
        assert all(bool((one == 0.5).all()) for one in module.network.backbone().parameters())
        if number:
            assert not any(bool((one == 3.0).all()) for one in module.network.parameters())
    assert set(asked) == {("IMAGENET1K_V1", "sets", "kept")}
    module.start_anew()
    assert len(asked) == 4
