"""What a generator is asked for after training: judged by a classifier that its checkpoint carries."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.loading import load, load_run
from lightning_modules.osgan.distances import ClassifierFeatures
from lightning_modules.osgan.generation import ImageGenerator
from tests.command_lines import command
from tests.figure_text import text_of
from tests.small_runs import configuration
from tests.small_runs import fit as fit_small

pytestmark = pytest.mark.usefixtures("as_before")

GAN = (
    "model=osgan",
    "data=digits",
    "model.generator_width=4",
    "model.discriminator_width=8",
    "model.norm_groups=4",
    "model.num_samples=40",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "seed=4",
)
CLASSIFIER = (
    "model=classifier",
    "data=digits",
    "data.image_size=16",
    "trainer.max_epochs=1",
    "~callbacks.pictures",
)


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))["metrics"]
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with runs of a classifier and of a GAN that it judges."""
    place = tmp_path_factory.mktemp("gan")
    assert command(place, *CLASSIFIER) == 0
    classifier = only(place / "runs" / "classifier_digits")
    assert command(place, *GAN, f"model.requires.features={classifier}") == 0
    return place


def test_the_judging_classifier_goes_with_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    folder = only(trained / "runs" / "osgan_digits")
    alone = tmp_path / "gan.ckpt"
    shutil.copy(folder / "checkpoints" / "best.ckpt", alone)
    before = metrics(folder)
    assert set(before) == {"test/fd_classifier", "test/kd_classifier"}
    words = ("model=osgan", "data=digits", "mode=test", f"ckpt={alone}", "~callbacks.pictures")
    assert command(tmp_path, *words) == 0
    assert metrics(only(tmp_path / "runs" / "osgan_digits")) == before, "bit for bit"
    assert not (tmp_path / "runs" / "prerequisites").exists()


def test_another_number_of_samples_may_be_asked_for_in_a_test(trained: Path, tmp_path: Path) -> None:
    folder = only(trained / "runs" / "osgan_digits")
    words = ("model=osgan", "data=digits", "mode=test", f"ckpt={folder}", "~callbacks.pictures")
    assert command(tmp_path, *words, "model.num_samples=80") == 0
    found = metrics(only(tmp_path / "runs" / "osgan_digits"))
    assert found["test/fd_classifier"] != metrics(folder)["test/fd_classifier"]


def test_epochs_are_judged_and_pictures_drawn(trained: Path) -> None:
    folder = only(trained / "runs" / "osgan_digits")
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/fd_classifier"]]
    assert len(rows) == 2
    assert all(float(row["val/fd_classifier"]) > 0 for row in rows)
    assert "val/kd_classifier" not in rows[0], "kernel distances are for the test"
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {"samples.png", "progress.png", "logits.png", "training_curves.png"}


def test_a_conditional_generator_s_pictures_have_a_named_column_for_each_class(trained: Path) -> None:
    module, data = load_run(only(trained / "runs" / "osgan_digits"))
    figures = dict(module.figures(data, None))
    assert {str(digit) for digit in range(10)} <= set(text_of(figures["samples"]).split())


def test_a_loaded_generator_makes_the_samples_of_its_run(trained: Path) -> None:
    module = load(only(trained / "runs" / "osgan_digits"))
    assert isinstance(module, ImageGenerator)
    assert module.sample(2).shape == (2, 1, 16, 16)
    assert [epoch for epoch, _ in module._history] == [1, 2]
    assert isinstance(module._classifier[0], ClassifierFeatures)


def test_a_classifier_of_other_images_is_refused(trained: Path) -> None:
    classifier = load(only(trained / "runs" / "classifier_digits"))
    from harness.build import build_module

    module = build_module(configuration(*GAN, "data.image_size=8"))
    with pytest.raises(UserError, match=r"features was trained with image_size=16.*image_size=8"):
        module.on_prerequisites({"features": classifier})
    with pytest.raises(UserError, match=r"model\.requires\.features: OSGAN is no image classifier"):
        module.on_prerequisites({"features": module})


def test_a_classifier_judges_with_the_normalisation_of_its_own_training(
    trained: Path, tmp_path: Path
) -> None:
    classifier = only(trained / "runs" / "classifier_digits")
    found = []
    for number, words in enumerate([(), ("data.mean=[0.9]", "data.std=[0.1]")]):
        place = tmp_path / str(number)
        given = f"model.requires.features={classifier}"
        assert command(place, *GAN, "trainer.max_epochs=1", *words, given, "~callbacks.pictures") == 0
        found.append(metrics(only(place / "runs" / "osgan_digits"))["test/fd_classifier"])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_a_gan_that_nobody_judges_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = fit_small(tmp_path, *GAN, "model.requires.features=null")
    assert run.test() == {}
    assert "no number will say how good the samples are" in caplog.text
