"""Losses of two players: their slopes are derivatives, and a symmetric pair is one."""

import pytest
import torch

from lightning_modules.osgan.losses import LOSSES

LOGITS = torch.tensor([-30.0, -3.0, -0.7, 0.2, 1.5, 4.0, 30.0], dtype=torch.float64)


@pytest.mark.parametrize("name", LOSSES)
def test_slopes_are_the_derivatives(name: str) -> None:
    loss = LOSSES[name]
    for function, slope in ((loss.fake, loss.fake_slope), (loss.generator, loss.generator_slope)):
        s = LOGITS.clone().requires_grad_()
        (derivative,) = torch.autograd.grad(function(s).sum(), s)
        torch.testing.assert_close(slope(LOGITS), derivative, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_a_symmetric_generator_gains_what_the_discriminator_loses(name: str) -> None:
    loss = LOSSES[name]
    ratio = loss.generator_slope(LOGITS) / loss.fake_slope(LOGITS)
    assert bool((ratio == -1).all()) is loss.is_symmetric


def test_real_images_are_judged_as_the_papers_say() -> None:
    s = torch.tensor([0.0, 2.0], dtype=torch.float64)
    expected = {
        "minimax": [0.693147, 0.126928],
        "wgan": [0.0, -2.0],
        "non_saturating": [0.693147, 0.126928],
        "lsgan": [0.5, 0.5],
        "hinge": [1.0, 0.0],
    }
    for name, values in expected.items():
        torch.testing.assert_close(LOSSES[name].real(s), torch.tensor(values).double(), rtol=0, atol=1e-6)


def test_all_but_symmetric_losses_have_a_floor() -> None:
    for loss in LOSSES.values():
        assert (loss.floor > 0) is not loss.is_symmetric
