"""EdgeConv in split form is the concatenated one: values, gradients, running statistics."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.point_cloud_classification import edge_conv, edge_pooling
from lightning_modules.point_cloud_classification.edge_conv import EdgeConv, edge_features
from lightning_modules.point_cloud_classification.edge_pooling import max_and_moments, neighbour_max
from lightning_modules.point_cloud_classification.knn import knn_graph


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(edge_pooling, "numba_fault", lambda: "not wanted here")
    return str(request.param)


def unusual(in_channels: int = 5, out_channels: int = 7) -> EdgeConv:
    """A layer in float64 with scales of both signs and statistics that are not those of the start."""
    generator = torch.Generator().manual_seed(0)
    layer = EdgeConv(in_channels, out_channels).double()
    with torch.no_grad():
        for tensor in (layer.conv.weight, layer.norm.weight, layer.norm.bias, layer.norm.running_mean):
            assert tensor is not None
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        assert layer.norm.running_var is not None
        layer.norm.running_var.uniform_(0.5, 2.0, generator=generator)
    assert (layer.norm.weight < 0).any()
    assert (layer.norm.weight > 0).any()
    return layer


def clouds(width: int = 5) -> tuple[Tensor, Tensor]:
    x = torch.randn(3, 20, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x, knn_graph(x, 6)


def test_one_edge_feature_worked_out_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0], [5.0, 1.0]]])
    found = edge_features(x, torch.tensor([[[0, 1], [1, 0]]]))
    assert found[0, 0].tolist() == [[0.0, 0.0, 1.0, 2.0], [4.0, -1.0, 1.0, 2.0]]


def test_its_weights_are_those_of_a_convolution_and_a_normalisation() -> None:
    shapes = {name: tuple(value.shape) for name, value in EdgeConv(64, 128).named_parameters()}
    assert shapes == {"conv.weight": (128, 128, 1, 1), "norm.weight": (128,), "norm.bias": (128,)}


@pytest.mark.parametrize("training", [True, False])
def test_the_split_form_equals_the_concatenated_one(way: str, training: bool) -> None:
    split = unusual().train(training)
    twin = copy.deepcopy(split)
    x, neighbours = clouds()
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):  # the second step starts from statistics of the first
        ours, theirs = split(one, neighbours), twin.textbook(other, neighbours)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
        grad = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        found = torch.autograd.grad(ours, [one, *split.parameters()], grad)
        expected = torch.autograd.grad(theirs, [other, *twin.parameters()], grad)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
        buffers = zip(split.named_buffers(), twin.buffers(), strict=True)
        for (name, buffer), reference in buffers:
            torch.testing.assert_close(buffer, reference, rtol=0, atol=1e-12, msg=name)
    assert int(split.norm.num_batches_tracked or 0) == (2 if training else 0)


def test_both_ways_agree_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, (x, neighbours) = unusual().float(), clouds()
    compiled = copy.deepcopy(layer)(x.float(), neighbours)
    monkeypatch.setattr(edge_pooling, "numba_fault", lambda: "not wanted here")
    torch.testing.assert_close(layer(x.float(), neighbours), compiled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_small_differences(way: str, training: bool) -> None:
    layer = unusual(3, 4).train(training)
    x, neighbours = clouds(3)
    small, near = x[:1, :8].clone().requires_grad_(), neighbours[:1, :8] % 8
    names = [name for name, _ in layer.named_parameters()]

    def function(x: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, near))
        return out

    assert torch.autograd.gradcheck(function, (small, *layer.parameters()))


def test_moments_are_those_of_all_edges(way: str) -> None:
    generator = torch.Generator().manual_seed(3)
    u, v = (torch.randn(9, 4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    # far from 0, where the mean of squares minus the square of the mean would have lost all digits
    v = v + 1e7
    index = torch.randint(9, (9, 3), generator=generator, dtype=torch.int32)
    largest, mean, variance = max_and_moments(u, v, index)
    edges = u[index.long()] + v[:, None]
    torch.testing.assert_close(largest, u[index.long()].amax(dim=1))
    torch.testing.assert_close(mean, edges.mean(dim=(0, 1)), rtol=1e-14, atol=0)
    torch.testing.assert_close(variance, edges.var(dim=(0, 1), correction=0), rtol=1e-6, atol=0)


def test_edges_that_read_a_point_are_counted_whichever_they_are() -> None:
    index = torch.tensor([[2, 1, 2], [2, 2, 2], [4, 4, 1]], dtype=torch.int32)
    found = edge_pooling._times_read(index, torch.zeros(6, 2))
    assert found.tolist() == [0.0, 2.0, 5.0, 0.0, 2.0, 0.0]
    assert found.dtype == torch.float32


def test_of_equal_neighbours_the_first_has_the_gradient(way: str) -> None:
    u = torch.tensor([[1.0], [1.0], [0.0]], requires_grad=True)
    neighbour_max(u, torch.tensor([[2, 1, 0], [2, 2, 2], [0, 0, 1]], dtype=torch.int32)).sum().backward()
    assert u.grad is not None
    assert u.grad.flatten().tolist() == [1.0, 1.0, 1.0]


def test_points_that_nobody_reads_have_no_part_in_it(way: str) -> None:
    u = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    v = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[0, 1], [0, 1], [1, 0], [1, 1]], dtype=torch.int32)
    largest, mean, variance = max_and_moments(u, v, index)
    (largest.sum() + mean.sum() + variance.sum()).backward()
    assert u.grad is not None
    assert u.grad[2:].abs().sum() == 0
    assert u.grad[:2].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_output_has_the_type_of_the_input(dtype: torch.dtype) -> None:
    x, neighbours = clouds()
    assert unusual().to(dtype)(x.to(dtype), neighbours).dtype == dtype


def test_autocast_keeps_sums_in_single_precision() -> None:
    layer, (x, neighbours) = unusual().float(), clouds()
    exact = copy.deepcopy(layer).textbook(x.float(), neighbours)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x.float(), neighbours)
    assert out.dtype == torch.float32
    # 8 bits of the products of matrices, and nothing worse
    assert (out - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_statistics_over_several_processes_take_the_textbook_s_way(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, (x, neighbours) = unusual(), clouds()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(layer))
    asked: list[Tensor] = []
    monkeypatch.setattr(EdgeConv, "textbook", lambda self, x, near: asked.append(x))
    monkeypatch.setattr(edge_conv.torch.distributed, "is_initialized", lambda: True)
    layer(x, neighbours)
    assert asked == []
    converted(x, neighbours)
    assert len(asked) == 1
    asked.clear()
    assert isinstance(converted.eval()(x, neighbours), Tensor)
    assert asked == []
