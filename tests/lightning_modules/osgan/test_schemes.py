"""Training steps: one stage against two backward passes, what must fail, and how many passes a step takes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.osgan.losses import LOSSES
from lightning_modules.osgan.networks import Discriminator
from lightning_modules.osgan.schemes import (
    SCHEMES,
    one_stage,
    simultaneous,
    two_stage,
    two_stage_lean,
    two_stage_reuse,
)
from tests.lightning_modules.osgan.players import (
    NUMBER,
    gradients,
    networks,
    noise,
    real_images,
    relative_difference,
)


def floored(scheme: Callable[..., Any]) -> Callable[..., Any]:
    """``scheme`` with D's loss on generated images replaced by one whose slope is floored."""

    def step(players: Any, images: Tensor, y: Tensor | None) -> Any:
        loss = players.loss

        def fake(s: Tensor) -> Tensor:
            # its derivative is max(l_f', floor) for the hinge: a leaky hinge
            return torch.where(s > -1, 1 + s, players.floor * (1 + s))

        leaky = copy.copy(loss)
        object.__setattr__(leaky, "fake", fake)
        object.__setattr__(players, "loss", leaky)
        return scheme(players, images, y)

    return step


@pytest.mark.parametrize("form", ["weighted", "direct", "packed"])
@pytest.mark.parametrize("loss", LOSSES)
def test_one_stage_has_the_gradients_of_two_backward_passes(loss: str, form: str) -> None:
    built = networks()
    reference = gradients(simultaneous, loss, built, floor=0.0)
    floor = 0.0 if form != "weighted" or loss == "lsgan" else None
    if loss == "hinge":
        floor = 1e-2  # without it logits below -1 would have no ratio
        if form != "weighted":
            pytest.skip("the other forms keep to no floor")
    found = gradients(one_stage, loss, built, form=form, floor=floor)
    assert relative_difference(found, reference, "generator") < 1e-12
    if loss == "hinge":
        # D learns the floored loss, exactly, and so a little more than the true one
        assert 0 < relative_difference(found, reference, "discriminator") < 0.1
        leaky = gradients(floored(simultaneous), loss, built, floor=1e-2)
        assert relative_difference(found, leaky, "discriminator") < 1e-12
    else:
        assert relative_difference(found, reference, "discriminator") < 1e-12


@pytest.mark.parametrize("loss", ["non_saturating", "lsgan", "minimax", "wgan"])
def test_batch_normalisation_in_d_breaks_asymmetric_losses_and_no_other(loss: str) -> None:
    built = networks("batch")
    reference = gradients(simultaneous, loss, built, floor=0.0)
    found = gradients(one_stage, loss, built, floor=0.0)
    assert relative_difference(found, reference, "discriminator") < 1e-12
    error = relative_difference(found, reference, "generator")
    if LOSSES[loss].is_symmetric:
        assert error < 1e-12
    else:
        assert error > 1e-2


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
def test_spectral_normalisation_is_exact(loss: str) -> None:
    built = networks("none", spectral=True)
    with torch.no_grad():
        built[1].logit.bias.sub_(1.0)  # logits on both sides of the hinge
    reference, found = (gradients(scheme, loss, built) for scheme in (simultaneous, one_stage))
    assert relative_difference(found, reference, "generator") < 1e-12


def test_a_projection_on_the_class_is_exact() -> None:
    built = networks(head="projection", num_classes=3)
    classes = {"y": torch.arange(NUMBER) % 3, "fake_y": torch.arange(NUMBER) % 2}
    reference, found = (
        gradients(scheme, "non_saturating", built, **classes) for scheme in (simultaneous, one_stage)
    )
    for player in ("generator", "discriminator"):
        assert relative_difference(found, reference, player) < 1e-12


def test_a_class_head_would_not_be_exact() -> None:
    built = networks(head="auxiliary", num_classes=3)
    classes = {"y": torch.arange(NUMBER) % 3, "fake_y": torch.arange(NUMBER) % 2}
    reference = gradients(simultaneous, "non_saturating", built, **classes)

    def with_class_loss(players: Any, images: Tensor, y: Tensor) -> None:
        # what one stage would do: the ratio of the adversarial losses for the sum of both gradients
        from torch.nn.functional import cross_entropy

        from lightning_modules.osgan.one_stage import carried_slopes, scale_gradient

        fake, fake_y = players.make(0)
        real_logits, real_classes = players.discriminator(images)
        logits, fake_classes = players.discriminator(fake)
        _, gamma = carried_slopes(players.loss, logits.detach(), 0.0)
        scale_gradient(fake, gamma)
        loss = players.loss.real(real_logits).mean() + players.loss.fake(logits).mean()
        loss = loss + cross_entropy(real_classes, y) + cross_entropy(fake_classes, fake_y)
        players.clear("generator", "discriminator")
        players.backward(loss)
        players.update("generator", "discriminator")

    found = gradients(with_class_loss, "non_saturating", built, **classes)
    assert relative_difference(found, reference, "discriminator") < 1e-12
    assert relative_difference(found, reference, "generator") > 1e-2


def test_a_batch_of_one_works() -> None:
    built = networks()
    reference, found = (
        gradients(scheme, "non_saturating", built, number=1) for scheme in (simultaneous, one_stage)
    )
    for player in ("generator", "discriminator"):
        assert relative_difference(found, reference, player) < 1e-12


def test_the_order_of_the_batch_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    import tests.lightning_modules.osgan.players as players

    built = networks()
    one = gradients(one_stage, "non_saturating", built)
    order = torch.randperm(NUMBER, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(players, "noise", lambda stage, number: noise(stage, number)[order])
    other = gradients(one_stage, "non_saturating", built)
    for player in ("generator", "discriminator"):
        assert relative_difference(other, one, player) < 1e-12


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
def test_shares_of_two_processes_average_to_the_gradients_of_one(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What DDP does, with a generator whose images do not depend on the rest of the share."""
    import tests.lightning_modules.osgan.players as players

    built = networks()
    built[0].layers = nn.Sequential(*(m for m in built[0].layers if not isinstance(m, nn.BatchNorm2d)))
    alone = gradients(one_stage, loss, built)
    images, half = real_images(), NUMBER // 2
    shares = []
    for rank in range(2):
        part = slice(rank * half, (rank + 1) * half)
        monkeypatch.setattr(players, "noise", lambda stage, number, part=part: noise(stage)[part])
        monkeypatch.setattr(players, "real_images", lambda number, part=part: images[part])
        shares.append(gradients(one_stage, loss, built, number=half))
    averaged = {name: (shares[0][name] + shares[1][name]) / 2 for name in alone}
    for player in ("generator", "discriminator"):
        assert relative_difference(averaged, alone, player) < 1e-12


class Counter:
    """Counts passes through a network and, in units of its batch, what of them is computed backward."""

    def __init__(self, network: nn.Module) -> None:
        self.forward = self.backward = 0
        self.images = 0
        network.register_forward_hook(self._seen)

    def _seen(self, network: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.forward += 1
        self.images += len(inputs[0])
        if output.requires_grad:
            output.register_hook(self._passed)

    def _passed(self, gradient: Tensor) -> None:
        self.backward += 1


@pytest.mark.parametrize(
    ("scheme", "of_g", "of_d"),
    [
        # forward and backward passes of G; of D, and images it sees, in batches
        ("one_stage", (1, 1), (1, 1, 2)),
        ("two_stage", (2, 1), (2, 2, 3)),
        ("two_stage_lean", (2, 1), (2, 2, 3)),
        ("two_stage_reuse", (1, 1), (2, 2, 3)),
        ("simultaneous", (1, 1), (1, 2, 2)),
    ],
)
def test_a_step_takes_as_many_passes_as_its_scheme_says(
    scheme: str, of_g: tuple[int, int], of_d: tuple[int, int, int]
) -> None:
    counters: list[Counter] = []

    def counted(players: Any, images: Tensor, y: Tensor | None) -> Any:
        counters.extend(Counter(network) for network in (players.generator, players.discriminator))
        return SCHEMES[scheme](players, images, y)

    gradients(counted, "non_saturating", networks())
    g, d = counters
    assert (g.forward, g.backward) == of_g
    assert (d.forward, d.backward, d.images / NUMBER) == of_d


@pytest.mark.parametrize("scheme", [two_stage_lean, two_stage_reuse])
def test_lean_stages_have_the_gradients_of_the_usual_ones(scheme: Callable[..., Any]) -> None:
    built = networks()
    found, usual = (gradients(step, "non_saturating", built) for step in (scheme, two_stage))
    assert relative_difference(found, usual, "discriminator") < 1e-12
    if scheme is two_stage_lean:
        assert relative_difference(found, usual, "generator") < 1e-12
    else:  # it keeps the first noise, and D is not updated here: the simultaneous gradient
        reference = gradients(simultaneous, "non_saturating", built)
        assert relative_difference(found, reference, "generator") < 1e-12


def test_a_lean_step_wastes_no_gradient_and_thaws_d_again() -> None:
    spent: list[bool] = []

    def watched(players: Any, images: Tensor, y: Tensor | None) -> Any:
        update = players.update

        def after(*names: str) -> None:
            update(*names)
            if names == ("generator",):
                spent.append(all(torch.equal(p.grad, kept[i]) for i, p in enumerate(weights)))
            else:
                kept.extend(p.grad.clone() for p in weights)

        weights, kept = list(players.discriminator.parameters()), list[Tensor]()
        object.__setattr__(players, "update", after)
        report = two_stage_lean(players, images, y)
        assert all(p.requires_grad for p in weights)
        return report

    gradients(watched, "non_saturating", networks())
    assert spent == [True]


def test_wgan_is_averaged_over_each_kind_of_images() -> None:
    """Not over both together, which would halve the gradients."""
    generator, discriminator = networks()
    found = gradients(one_stage, "wgan", (generator, discriminator))
    images, fakes = real_images(), copy.deepcopy(generator)(noise(0)).detach()
    loss = -discriminator(images).mean() + discriminator(fakes).mean()
    expected = torch.autograd.grad(loss, list(discriminator.parameters()))
    for (name, _), gradient in zip(discriminator.named_parameters(), expected, strict=True):
        torch.testing.assert_close(found[f"discriminator.{name}"], gradient)


def test_half_precision_of_a_network_s_output_does_not_reach_the_ratio() -> None:
    """exp(-s) leaves the range of float16 below s = -11."""

    class Half(Discriminator):
        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return super().forward(x, y).half() - 15

    generator, _ = networks()
    torch.manual_seed(0)
    found = gradients(one_stage, "non_saturating", (generator, Half(1, 16, 8, "group", 4).double()))
    assert all(bool(value.isfinite().all()) for value in found.values())
