"""What is kept of a teacher is what it says, whatever batch a graph is in."""

import pytest
import torch

from datamodules.graph_sets import GraphLoader
from datamodules.loaders import EpochBatchSampler
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.lsp.structure import RULER, Kernel
from lightning_modules.lsp.teacher import Answers, AnswerTable, Teacher
from tests.lightning_modules.lsp.networks import labelled_graphs, of, teacher

KERNELS = [RULER, Kernel("linear"), Kernel("l1exp")]


def asked(maps: str | None = "mean") -> Teacher:
    return Teacher(teacher().network, [2, 1], KERNELS, logits=True, hidden=True, maps=maps)


def table(source: Teacher, graphs: object) -> AnswerTable:
    sampler = EpochBatchSampler(len(graphs), 2, training=False, seed=0, first_epoch=0, rank=0, world=1)  # type: ignore[arg-type]
    return AnswerTable(source, GraphLoader(graphs, sampler), torch.float32)  # type: ignore[arg-type]


def assert_same(kept: Answers, live: Answers) -> None:
    torch.testing.assert_close(kept.structures, live.structures, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kept.logits, live.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(kept.maps, live.maps, rtol=1e-4, atol=1e-5)
    assert len(kept.hidden) == len(live.hidden) == 2
    for one, other in zip(kept.hidden, live.hidden, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("maps", ["mean", "unit"])
@pytest.mark.parametrize("numbers", [(0, 1, 2, 3, 4), (4, 1), (3,), (2, 2)])
@pytest.mark.parametrize("self_loops", [True, False])
def test_kept_answers_are_those_of_a_pass(numbers: tuple[int, ...], maps: str, self_loops: bool) -> None:
    graphs, source = labelled_graphs(self_loops=self_loops), asked(maps)
    kept = table(source, graphs)
    batch = of(graphs, *numbers)
    live = source.answer(Graphs.of(batch))
    assert live.structures.shape == (batch["edge_index"].size(1), 6)
    assert_same(kept.look_up(batch), live)
    kept.verify()


def test_a_split_that_begins_at_another_number_finds_its_own() -> None:
    source = asked()
    second = labelled_graphs().take(torch.tensor([3, 1, 4]))
    batch = of(second, 2, 0)
    assert_same(table(source, second).look_up(batch), source.answer(Graphs.of(batch)))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_answers_of_a_teacher_that_has_changed_since_are_refused(kernel: Kernel) -> None:
    """By a hundredth, and where nothing but structures is asked for."""
    graphs, source = labelled_graphs(), Teacher(teacher().network, [2], [kernel])
    kept = table(source, graphs)
    kept.verify()
    with torch.no_grad():
        for layer in source.network.layers:
            layer.linear.weight.mul_(1.01)  # type: ignore[union-attr,operator]
    with pytest.raises(RuntimeError, match="kept answers"):
        kept.verify()


def test_what_is_kept_of_the_last_graph_is_verified_too() -> None:
    graphs, source = labelled_graphs(), Teacher(teacher().network, [2], [RULER])
    kept = table(source, graphs)
    with torch.no_grad():
        kept.kept.structures[-1] += 0.01
    with pytest.raises(RuntimeError, match="kept answers"):
        kept.verify()


def test_answers_carry_no_gradient_and_only_what_is_asked_for() -> None:
    source = Teacher(teacher().network.requires_grad_(True), [1], [RULER])
    answers = source.answer(Graphs.of(of(labelled_graphs(), 0)))
    assert not answers.structures.requires_grad
    assert (answers.logits, answers.hidden, answers.maps) == (None, (), None)
