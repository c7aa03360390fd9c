"""Distances of generated images on a GPU are those of the CPU."""

import pytest
import torch

from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.osgan.distances import ClassifierFeatures, Judge

NO_GPU = "torch sees no CUDA device here"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_a_judge_finds_the_same_on_either_device():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = ImageClassifier(
            in_channels=1,
            image_size=8,
            num_classes=3,
            network={"name": "plain_cnn", "width": 4, "depth": 2, "norm": "batch", "dropout": 0.0},
            weights=None,
            fine_tune=True,
            root="",
            cache="",
            label_smoothing=0.0,
            optimizer={"name": "Adam"},
            scheduler=None,
            scheduler_interval="epoch",
        )
    random = torch.Generator().manual_seed(0)
    real, fake = (torch.rand(64, 1, 8, 8, generator=random) for _ in range(2))
    found = []
    for device in ("cpu", "cuda"):
        judge = Judge(ClassifierFeatures.of(classifier, [0.5], [0.25]), "classifier").to(device)
        judge.see_real(real.split(20))
        found.append(judge.compare([fake.to(device)]))
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-6)
