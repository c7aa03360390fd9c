"""Distances against values worked out by hand, and features that outlive their classifier's run."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.distributed
from torch import Tensor

from harness.errors import UserError
from lightning_modules.image_classification.block_network import embed
from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.osgan import distances
from lightning_modules.osgan.distances import ClassifierFeatures, DataFeatures, Judge, measure
from tests.processes import forked


def pixels(images: Tensor) -> Tensor:
    """An image of three pixels is its own three features."""
    return images.flatten(1).double()


def as_images(points: Tensor) -> Tensor:
    return points[:, None, None, :]  # [N, 3] -> [N, 1, 1, 3]


OWN = DataFeatures(pixels, 3)


def distance(real: Tensor, fake: Tensor) -> float:
    found = measure(OWN, [as_images(real)], [as_images(fake)], name="points", kernel=False)
    assert list(found) == ["fd_points"]
    return found["fd_points"]


def with_moments(mean: list[float], covariance: np.ndarray) -> Tensor:
    """Six points of exactly this mean and (unbiased) covariance: 3 axes, one step either way."""
    factor = scipy.linalg.sqrtm(covariance).real * np.sqrt(5 / 2)
    return torch.from_numpy(np.concatenate([mean + factor, mean - factor]))


def test_axis_parallel_gaussians_have_the_distance_worked_out_by_hand():
    real = with_moments([0.0, 0.0, 0.0], np.diag([1.0, 4.0, 9.0]))
    fake = with_moments([1.0, 0.0, 2.0], np.diag([4.0, 4.0, 1.0]))
    # means 1 + 4; deviations (1-2)^2 + (2-2)^2 + (3-1)^2
    assert distance(real, fake) == pytest.approx(5 + 1 + 0 + 4, rel=1e-12)


def test_gaussians_that_do_not_share_their_axes_agree_with_the_matrix_square_root():
    random = np.random.default_rng(0)
    first, second = (a @ a.T for a in random.normal(size=(2, 3, 3)))
    mean = random.normal(size=3)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = mean @ mean + np.trace(first + second - 2 * root)
    found = distance(with_moments([0.0, 0.0, 0.0], first), with_moments(mean.tolist(), second))
    assert found == pytest.approx(expected, rel=1e-9)


def test_equal_sets_are_at_no_distance_and_order_does_not_matter():
    points = torch.rand(2, 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert distance(points[0], points[0].flip(0)) == pytest.approx(0, abs=1e-9)
    assert distance(points[0], points[1]) > 1e-3
    assert distance(points[0], points[1]) == pytest.approx(distance(points[1], points[0]), rel=1e-9)


def test_the_kernel_distance_of_a_small_set_is_the_one_of_all_its_pairs():
    real, fake = torch.rand(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def kernel(a: Tensor, b: Tensor) -> float:
        return float(a @ b / 3 + 1) ** 3

    within = sum(kernel(s[i], s[j]) for s in (real, fake) for i in range(5) for j in range(5) if i != j) / 20
    between = sum(kernel(a, b) for a in real for b in fake) / 25
    state = torch.get_rng_state()
    found = measure(OWN, [as_images(real)], [as_images(fake)], name="points")
    assert found["kd_points"] == pytest.approx(within - 2 * between, rel=1e-9)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn from the global generator"


def test_subsets_fit_the_smaller_set_and_are_the_same_in_every_call(monkeypatch):
    monkeypatch.setattr(distances, "KERNEL_SUBSET_SIZE", 8)
    random = torch.Generator().manual_seed(2)
    real, fake = as_images(torch.rand(30, 3, generator=random)), as_images(torch.rand(5, 3, generator=random))
    judge = Judge(OWN, "points")
    judge.see_real([real])
    first = judge.compare([fake])
    torch.rand(1)
    assert judge.compare([fake]) == first


def test_real_images_are_seen_once_and_in_any_batches():
    random = torch.Generator().manual_seed(3)
    real, fake, other = (as_images(torch.rand(n, 3, generator=random)) for n in (25, 20, 9))
    judge = Judge(OWN, "points")
    judge.see_real(iter(real.split(7)))
    judge.compare([other])
    found = judge.compare(fake.split(6))
    expected = measure(OWN, [real], [fake], name="points")
    assert found == pytest.approx(expected, rel=1e-9)
    assert tuple(found) == judge.keys == ("fd_points", "kd_points")


@pytest.mark.parametrize("fake", [0, 1])
def test_too_few_generated_images_name_the_key(fake):
    judge = Judge(OWN, "points")
    judge.see_real([torch.rand(4, 1, 1, 3)])
    with pytest.raises(UserError, match=rf"model\.num_samples: {fake} generated image.* to 2 or more"):
        judge.compare([torch.rand(fake, 1, 1, 3)])
    assert judge.compare([torch.rand(2, 1, 1, 3)])["fd_points"] > 0, "the judge goes on"


def test_too_few_real_images_are_a_mistake_of_the_data():
    with pytest.raises(UserError, match="split to compare with holds 0 images"):
        measure(OWN, [], [torch.rand(4, 1, 1, 3)], name="points")


def test_a_generator_that_has_diverged_is_at_no_known_distance():
    judge = Judge(OWN, "points")
    judge.see_real([torch.rand(4, 1, 1, 3)])
    found = judge.compare([torch.full((4, 1, 1, 3), float("nan"))])
    assert all(value != value for value in found.values())
    assert judge.compare([torch.rand(4, 1, 1, 3)])["fd_points"] >= 0, "the next one is judged again"


def test_only_inception_s_features_may_be_named_so():
    with pytest.raises(ValueError, match="'inception' must not be a DataFeatures"):
        Judge(OWN, "inception")


def test_features_of_a_wrong_shape_or_none_are_named():
    with pytest.raises(ValueError, match=r"\[2, 5\] expected, got \[2, 3\]"):
        DataFeatures(pixels, 5)(torch.rand(2, 1, 1, 3))
    with pytest.raises(ValueError, match="got None"):
        DataFeatures(lambda images: None, 5)(torch.rand(2, 1, 1, 3))


@pytest.fixture
def classifier() -> ImageClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = ImageClassifier(
            in_channels=1,
            image_size=8,
            num_classes=3,
            network={"name": "plain_cnn", "width": 4, "depth": 2, "norm": "batch", "dropout": 0.5},
            weights=None,
            fine_tune=True,
            root="",
            cache="",
            label_smoothing=0.0,
            optimizer={"name": "Adam"},
            scheduler=None,
            scheduler_interval="epoch",
        )
        module(torch.rand(16, 1, 8, 8))  # moves the running statistics away from 0 and 1
    return module


def test_classifier_features_are_those_before_the_last_layer(classifier):
    features, images = ClassifierFeatures.of(classifier, [0.5], [0.25]), torch.rand(6, 1, 8, 8)
    found = features.train()(images)
    classifier.eval()
    expected = embed(classifier.network, (images - 0.5) / 0.25)
    assert torch.equal(found, expected)
    assert found.shape == (6, features.num_features) == (6, 8)
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert classifier.network.classifier.weight.requires_grad, "the classifier itself is left alone"


def test_features_come_back_from_a_checkpoint_of_plain_data(classifier, tmp_path: Path):
    features, images = ClassifierFeatures.of(classifier, [0.5], [0.25]), torch.rand(6, 1, 8, 8)
    file = io.BytesIO()
    torch.save({"judge": features.to_plain()}, file)
    file.seek(0)
    state = torch.get_rng_state()
    again = ClassifierFeatures.from_plain(torch.load(file, weights_only=True)["judge"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again(images), features(images))
    assert not again.network.training


def test_a_judge_leaves_no_graph_and_ignores_autocast(classifier):
    features, images = ClassifierFeatures.of(classifier, [0.5], [0.25]), torch.rand(12, 1, 8, 8)
    fake = torch.rand(12, 1, 8, 8, requires_grad=True)
    expected = measure(features, [images], [fake.detach()], name="classifier")
    with torch.autocast("cpu", torch.bfloat16):
        assert measure(features, [images], [fake], name="classifier") == expected
    assert list(expected) == ["fd_classifier", "kd_classifier"]


def _in_a_process(rank: int, store: Path, expected: dict[str, float], real: Tensor, fake: Tensor) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    judge = Judge(OWN, "points")
    torch.manual_seed(rank)
    # unequal shares: 3 batches here, 1 there, and of the generated images none at all
    judge.see_real(real[:15].split(5) if rank == 0 else [real[15:]])
    found = judge.compare([fake] if rank == 0 else [])
    assert found == pytest.approx(expected, rel=1e-9), (rank, found)
    assert judge.compare(fake.split(4) if rank else []) == pytest.approx(expected, rel=1e-9)
    torch.distributed.destroy_process_group()


def test_processes_with_unequal_shares_find_the_distances_of_the_whole(tmp_path: Path):
    random = torch.Generator().manual_seed(4)
    real, fake = (as_images(torch.rand(20, 3, generator=random, dtype=torch.float64)) for _ in range(2))
    expected = measure(OWN, [real], [fake], name="points")
    works = [partial(_in_a_process, rank, tmp_path / "store", expected, real, fake) for rank in range(2)]
    assert forked(works, 60) == [0, 0]
