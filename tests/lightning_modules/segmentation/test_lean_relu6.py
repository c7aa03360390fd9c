"""The activation that keeps one map for the backward pass."""

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from lightning_modules.segmentation.lean_relu6 import LeanReLU6, lean_activations


def test_values_and_gradients_are_those_of_torch_to_the_bit() -> None:
    x = torch.tensor([-1.0, -0.0, 0.0, 1e-30, 3.0, 6.0 - 1e-6, 6.0, 7.0, torch.inf, torch.nan])
    grad = torch.arange(1.0, 11.0)
    found = []
    for activation in (LeanReLU6(), nn.ReLU6(inplace=True)):
        given = x.clone().requires_grad_()
        out = activation(given * 1)
        out.backward(grad)
        found.append((out.detach(), given.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_the_result_lies_where_the_input_did() -> None:
    for asks in (True, False):
        x = torch.randn(4, requires_grad=asks) * 9
        place = x.data_ptr()
        assert LeanReLU6()(x).data_ptr() == place
        with torch.no_grad():
            assert LeanReLU6()(x).data_ptr() == place


def kept_bytes(network: nn.Module, x: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, each storage once."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = network(x)
    assert out.requires_grad
    return sum(storages.values())


def test_a_backbone_computes_the_same_with_less_kept() -> None:
    torch.manual_seed(0)
    plain = mobilenet_v2(weights=None).features[:8].train()
    torch.manual_seed(0)
    lean = mobilenet_v2(weights=None).features[:8].train()
    lean_activations(lean)
    assert not any(isinstance(module, nn.ReLU6) for module in lean.modules())
    assert list(lean.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for network in (plain, lean):
        network(x).square().mean().backward()
    for one, other in zip(lean.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    assert kept_bytes(lean, x) < 0.75 * kept_bytes(plain, x)
