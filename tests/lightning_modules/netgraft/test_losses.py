"""The loss of NetGraft, worked out by hand (specification, section 10)."""

import pytest
import torch
from torch import Tensor

from lightning_modules.netgraft.losses import LOSSES, normalised_loss, squared_loss


@pytest.mark.parametrize(
    ("student", "value", "gradient"),
    [((1.0, 0.0), 0.8, (0.0, -1.6)), ((1.0, 2.0), 0.0322602, (-0.1431, 0.0716))],
)
def test_loss_and_gradient_of_logits_three_four(
    student: tuple[float, float], value: float, gradient: tuple[float, float]
) -> None:
    z_s = torch.tensor([student], dtype=torch.float64, requires_grad=True)
    loss = normalised_loss(z_s, torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(value, abs=1e-7)
    assert z_s.grad is not None
    assert z_s.grad[0].tolist() == pytest.approx(gradient, abs=5e-5)


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 16, 10, dtype=torch.float64, generator=generator)
    return one, other


def test_it_is_twice_one_less_the_cosine_summed_over_the_batch(logits: tuple[Tensor, Tensor]) -> None:
    cosines = torch.nn.functional.cosine_similarity(*logits)
    assert normalised_loss(*logits).item() == pytest.approx((2 * (1 - cosines)).sum().item())


def test_the_scale_of_either_network_does_not_matter(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    scales = torch.rand(2, 16, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
    scaled = normalised_loss(scales[0] * student, scales[1] * teacher)
    assert scaled.item() == pytest.approx(normalised_loss(student, teacher).item())


def test_it_lies_between_nothing_and_four_an_image(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    assert normalised_loss(student, student).item() == 0.0
    assert normalised_loss(student, -student).item() == pytest.approx(4 * 16)
    assert 0 < normalised_loss(student, teacher).item() < 4 * 16


def test_gradients_are_those_of_finite_differences(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    for loss in LOSSES.values():
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, teacher), student.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_anything_is_squared(dtype: torch.dtype) -> None:
    student, teacher = torch.tensor([[300.0, 0.0]], dtype=dtype), torch.tensor([[0.0, 300.0]], dtype=dtype)
    assert normalised_loss(student, teacher).item() == pytest.approx(2.0)
    assert squared_loss(student, teacher).item() == 180_000.0
    assert normalised_loss(student, teacher).dtype == torch.float32
