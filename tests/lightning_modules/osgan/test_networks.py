"""DCGAN's two networks: shapes, numbers of parameters, and whose affair a logit is."""

import pytest
import torch

from harness.errors import UserError
from lightning_modules.osgan.networks import Discriminator, Generator


def test_parameters_are_as_many_as_the_authors() -> None:
    with torch.device("meta"):
        generator = Generator(100, 3, 64, 128)
        discriminator = Discriminator(3, 64, 128, "group", 32)
    assert sum(p.numel() for p in generator.parameters()) == 12_660_355
    assert sum(p.numel() for p in discriminator.parameters()) == 11_038_081


def test_the_stand_in_s_networks_have_its_channels() -> None:
    generator, discriminator = Generator(16, 1, 16, 16), Discriminator(1, 16, 16, "group", 8)
    shapes = [tuple(p.shape) for p in generator.parameters() if p.dim() == 4]
    assert shapes == [(16, 32, 4, 4), (32, 16, 4, 4), (16, 1, 4, 4)]
    shapes = [tuple(p.shape) for p in discriminator.parameters() if p.dim() == 4]
    assert shapes == [(16, 1, 4, 4), (32, 16, 4, 4), (1, 32, 4, 4)]


@pytest.mark.parametrize("size", [8, 16, 32, 64])
@pytest.mark.parametrize("number", [1, 3])
def test_noise_becomes_an_image_and_an_image_one_logit(size: int, number: int) -> None:
    images = Generator(5, 3, size, 4)(torch.randn(number, 5))
    assert images.shape == (number, 3, size, size)
    assert images.abs().max() <= 1
    assert Discriminator(3, size, 4, "group", 2)(images).shape == (number,)


@pytest.mark.parametrize("size", [4, 12, 28, 33, 63])
def test_a_size_that_cannot_be_reached_is_refused(size: int) -> None:
    with pytest.raises(UserError, match=rf"model\.image_size={size} must be 8, 16, 32, 64"):
        Generator(5, 3, size, 4)
    with pytest.raises(UserError, match=rf"model\.image_size={size}"):
        Discriminator(3, size, 4, "none", 1)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"model\.norm_groups=5 must divide the 8 channels.*model\.norm_groups=8"
    ):
        Discriminator(3, 16, 4, "group", 5)


@pytest.mark.parametrize(
    ("norm", "spectral"), [("group", False), ("none", False), ("none", True), ("batch", False)]
)
def test_a_logit_is_its_image_s_own_affair_without_batch_normalisation(norm: str, spectral: bool) -> None:
    torch.manual_seed(0)
    network = Discriminator(1, 16, 4, norm, 2, spectral).double()  # type: ignore[arg-type]
    images = torch.randn(4, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(images)[0], images)
    assert network.is_samplewise is (norm != "batch")
    assert bool((gradient[1:] == 0).all()) is network.is_samplewise


def test_a_conditional_generator_makes_its_class() -> None:
    torch.manual_seed(0)
    generator = Generator(5, 1, 8, 4, num_classes=3).eval()
    z = torch.randn(1, 5).expand(3, -1)
    one, two, three = generator(z, torch.tensor([0, 1, 0]))
    assert torch.equal(one, three)
    assert not torch.equal(one, two)


def test_a_projection_adds_the_inner_product_with_the_class() -> None:
    torch.manual_seed(0)
    network = Discriminator(1, 8, 4, "none", 1, head="projection", num_classes=3).double()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    y = torch.tensor([2, 0])
    maps = network.layers(images)
    assert network.embedding is not None
    expected = [
        network.logit(maps)[i].sum() + network.embedding.weight[y[i]] @ maps[i].sum(dim=(1, 2))
        for i in range(2)
    ]
    torch.testing.assert_close(network(images, y), torch.stack(expected))


def test_a_class_head_judges_classes_beside() -> None:
    network = Discriminator(1, 8, 4, "batch", 1, head="auxiliary", num_classes=3)
    logits, classes = network(torch.randn(5, 1, 8, 8))
    assert logits.shape == (5,)
    assert classes.shape == (5, 3)


def test_spectral_normalisation_bounds_every_layer() -> None:
    torch.manual_seed(0)
    network = Discriminator(1, 16, 8, "none", 1, spectral=True, head="projection", num_classes=3).train()
    images = torch.randn(4, 1, 16, 16)
    for _ in range(30):  # power iterations, one a forward pass
        network(images, torch.tensor([0, 1, 2, 0]))
    assert network.embedding is not None
    for layer in (network.layers[0], network.layers[2], network.logit, network.embedding):
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)  # type: ignore[union-attr, operator]
        assert float(largest) == pytest.approx(1.0, abs=0.02)
