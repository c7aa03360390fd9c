"""One backward pass for two players: worked numbers, and the ratio against automatic differentiation."""

import pytest
import torch
from torch import Tensor

from lightning_modules.osgan.losses import LOSSES
from lightning_modules.osgan.one_stage import carried_slopes, discriminator_surrogate, scale_gradient

LOGITS = torch.tensor([-3.0, -1.0, -0.5, 0.3, 1.0, 2.5], dtype=torch.float64)


def one_image(x: list[float], form: str = "weighted") -> dict[str, Tensor]:
    """D(x) = 2 x1 - x2 with the non-saturating loss, on one generated image and no real one."""
    loss = LOSSES["non_saturating"]
    weight = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    made = torch.tensor([x], dtype=torch.float64, requires_grad=True)
    image = made * 1  # what a generator would hand over
    logits = image @ weight
    slope, gamma = carried_slopes(loss, logits.detach(), 0.0)
    seen: list[Tensor] = []
    scale_gradient(image, gamma)
    logits.register_hook(lambda gradient: seen.append(gradient * weight.detach()))
    objective = discriminator_surrogate(
        loss, torch.full((1,), torch.inf, dtype=torch.float64), logits, slope, gamma, form
    )
    objective.backward()
    assert made.grad is not None
    assert weight.grad is not None
    return {
        "slope": slope,
        "gamma": gamma,
        "from_d": seen[0].flatten(),
        "to_g": made.grad[0],
        "weight": weight.grad,
    }


@pytest.mark.parametrize("form", ["weighted", "direct", "packed"])
def test_the_worked_example(form: str) -> None:
    found = one_image([0.5, 0.0], form)
    expected = {
        "slope": [0.731059],
        "gamma": [-0.367879],
        "from_d": [1.462117, -0.731059],
        "to_g": [-0.537883, 0.268941],
        "weight": [0.365529, 0.0],
    }
    for name, values in expected.items():
        torch.testing.assert_close(found[name], torch.tensor(values).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(1 / (1 - found["gamma"]), found["slope"])

    other = one_image([0.0, 1.0], form)
    torch.testing.assert_close(other["gamma"], torch.tensor([-2.718282]).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(other["to_g"], torch.tensor([-1.462117, 0.731059]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_ratio_is_that_of_automatic_differentiation(name: str) -> None:
    loss = LOSSES[name]
    s = LOGITS.clone().requires_grad_()
    (of_d,) = torch.autograd.grad(loss.fake(s).sum(), s)
    (of_g,) = torch.autograd.grad(loss.generator(s).sum(), s)
    slope, gamma = carried_slopes(loss, LOGITS, loss.floor)
    torch.testing.assert_close(gamma * slope, of_g)
    reached = of_d.abs() >= loss.floor
    torch.testing.assert_close(slope[reached], of_d[reached])


def test_the_floor_keeps_the_sign_and_is_positive_at_zero() -> None:
    slope, gamma = carried_slopes(LOSSES["lsgan"], torch.tensor([-0.001, 0.0, 0.001, 0.5]), 0.01)
    torch.testing.assert_close(slope, torch.tensor([-0.01, 0.01, 0.01, 0.5]))
    torch.testing.assert_close(gamma, torch.tensor([100.1, -100.0, -99.9, -1.0]))
    hinge, _ = carried_slopes(LOSSES["hinge"], torch.tensor([-2.0, -1.0, 0.0]), 0.01)
    torch.testing.assert_close(hinge, torch.tensor([0.01, 0.01, 1.0]))


def test_the_surrogate_learns_with_the_floored_slope() -> None:
    loss, s = LOSSES["hinge"], torch.tensor([-2.0, 0.5], requires_grad=True)
    slope, gamma = carried_slopes(loss, s.detach(), 0.01)
    discriminator_surrogate(loss, torch.ones(1), s, slope, gamma, "weighted").backward()
    torch.testing.assert_close(s.grad, torch.tensor([0.005, 0.5]))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("logit", [-120.0, -90.0, -30.0, 0.0, 120.0])
def test_no_logit_makes_a_gradient_that_is_no_number(name: str, logit: float) -> None:
    """In float32 the sigmoid is 0 below -104."""
    loss = LOSSES[name]
    s = torch.tensor([logit])
    slope, gamma = carried_slopes(loss, s, loss.floor)
    torch.testing.assert_close(slope * gamma, loss.generator_slope(s))
    assert slope.isfinite().all()
    assert gamma.isfinite().all()


@pytest.mark.parametrize("name", ["non_saturating", "lsgan"])
@pytest.mark.parametrize("form", ["weighted", "direct", "packed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_floor_gradients_are_finite_at_any_logit(name: str, form: str, dtype: torch.dtype) -> None:
    loss = LOSSES[name]
    made = torch.tensor([-200.0, -50.0, 0.0], dtype=dtype, requires_grad=True)
    image = made * 1
    weight = torch.ones((), dtype=dtype, requires_grad=True)
    logits = image * weight
    slope, gamma = carried_slopes(loss, logits.detach(), 0.0)
    scale_gradient(image, gamma)
    discriminator_surrogate(loss, torch.ones(1, dtype=dtype), logits, slope, gamma, form).backward()
    assert made.grad is not None
    assert weight.grad is not None
    assert made.grad.isfinite().all()
    assert weight.grad.isfinite()
    if form != "direct":  # whose own slope may be 0 in float32, so that nothing is left to multiply
        torch.testing.assert_close(made.grad, loss.generator_slope(made.detach()) / 3, rtol=1e-5, atol=0)


def test_a_scaled_gradient_keeps_its_type_and_is_multiplied_in_the_factor_s() -> None:
    x = torch.ones(2, 3, dtype=torch.float16, requires_grad=True)
    made = x * 1
    scale_gradient(made, torch.tensor([1e-6, -2.0]))
    (made * torch.tensor([60000.0], dtype=torch.float16)).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float16
    # 1e-6 alone would be rounded to a subnormal number of float16 first, 5 % off
    torch.testing.assert_close(x.grad[0].float(), torch.full((3,), 0.06), rtol=1e-3, atol=0)
    assert x.grad[1].isinf().all()


def test_one_factor_serves_a_whole_batch() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    made = x * 1
    scale_gradient(made, torch.tensor(-0.5))
    made.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 3), -0.5))
