"""DGCNN: its size, its graphs, and what must not change its answer."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.point_cloud_classification import networks
from lightning_modules.point_cloud_classification.knn import knn_graph
from lightning_modules.point_cloud_classification.networks import DGCNN


def small(dropout: float = 0.0) -> DGCNN:
    torch.manual_seed(0)
    return DGCNN(3, 5, (8, 8, 16), 32, (16, 12), 6, dropout)


def clouds(size: int = 4) -> Tensor:
    return torch.randn(size, 30, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("widths", "embedding", "classifier", "k", "expected"),
    [
        ((64, 64, 128, 256), 1024, (512, 256), 20, 1_809_576),
        ((32, 32, 64), 128, (256,), 10, 99_560),
    ],
)
def test_teacher_and_student_have_the_specified_number_of_weights(
    widths: tuple[int, ...], embedding: int, classifier: tuple[int, ...], k: int, expected: int
) -> None:
    network = DGCNN(3, 40, widths, embedding, classifier, k, 0.5)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_the_first_linear_map_of_the_classifier_has_no_bias_and_the_others_have() -> None:
    linear = [module for module in small().classifier if isinstance(module, torch.nn.Linear)]
    assert [module.bias is not None for module in linear] == [False, True, True]


def test_every_parameter_gets_a_gradient() -> None:
    network = small()
    F.cross_entropy(network(clouds()).logits, torch.tensor([0, 1, 2, 3])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_it_is_the_network_of_the_paper_written_out() -> None:
    network, pos = small().double().eval(), clouds().double()
    x, features = pos, []
    for layer in network.layers:
        x = layer.textbook(x, knn_graph(x, 6))
        features.append(x)
    embedded = network.embed(torch.cat(features, dim=2)).mT  # [B, embedding, n]
    embedded = F.leaky_relu(network.embed_norm(embedded), 0.2)
    logits = network.classifier(torch.cat([embedded.amax(dim=2), embedded.mean(dim=2)], dim=1))
    found = network(pos)
    torch.testing.assert_close(found.logits, logits)
    assert len(found.features) == 3
    for one, other in zip(found.features, features, strict=True):
        torch.testing.assert_close(one, other)


def test_graphs_are_those_of_each_layer_s_own_output(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []

    def counted(x: Tensor, k: int) -> Tensor:
        calls.append(x)
        return knn_graph(x, k)

    monkeypatch.setattr(networks, "knn_graph", counted)
    found = small().eval()(clouds())
    assert len(calls) == 3, "one for each layer"
    for layer in (0, 1):
        assert torch.equal(found.graph(layer), knn_graph(found.features[layer], 6))
    assert len(calls) == 3, "the next layer has asked for them already"
    last = found.graph(-1)
    assert torch.equal(last, knn_graph(found.features[2], 6))
    assert found.graph(2) is last
    assert len(calls) == 4, "and the last ones are searched for once"
    with pytest.raises(IndexError):
        found.graph(3)


def test_the_last_graph_may_be_asked_for_first() -> None:
    found = small().eval()(clouds())
    assert torch.equal(found.graph(-1), knn_graph(found.features[2], 6))
    assert torch.equal(found.graph(0), knn_graph(found.features[0], 6))


def test_the_order_of_points_changes_no_answer() -> None:
    network, pos = small().double().eval(), clouds().double()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    moved, still = network(pos[:, order]), network(pos)
    torch.testing.assert_close(moved.logits, still.logits)
    torch.testing.assert_close(moved.features[-1], still.features[-1][:, order])


def test_a_cloud_s_answer_does_not_depend_on_its_company() -> None:
    network, pos = small().double().eval(), clouds().double()
    torch.testing.assert_close(network(pos[1:2]).logits, network(pos).logits[1:2])


def test_a_cloud_may_have_as_few_points_as_neighbours() -> None:
    assert small().eval()(clouds()[:, :6]).logits.shape == (4, 5)
