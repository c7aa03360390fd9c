"""Inception's features, from weights of the right shapes: the published ones are 96 MB."""

import hashlib
import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datamodules.download import RemoteFile
from harness.errors import UserError
from lightning_modules.osgan.inception_weights import INCEPTION, find_inception


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``paths.data`` with a weight file of torch-fidelity's network as it is initialised."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Fresh(inception.FeatureExtractorInceptionV3):
        def load_state_dict(self, *args, **kwargs):
            """Keeps the weights that were drawn."""

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Fresh("fresh", ["2048"], feature_extractor_weights_path=nothing)
    root: Path = tmp_path_factory.mktemp("data")
    (root / INCEPTION.path).parent.mkdir()
    torch.save(network.state_dict(), root / INCEPTION.path)
    return root


@pytest.fixture(scope="module")
def file(folder: Path) -> RemoteFile:
    """The same as if it had been published."""
    digest = hashlib.sha256((folder / INCEPTION.path).read_bytes()).hexdigest()
    return RemoteFile(INCEPTION.path, INCEPTION.url, (digest,))


def test_the_file_is_found_in_either_place_or_there_is_no_fid(folder, file, tmp_path):
    expected = folder / INCEPTION.path
    assert find_inception(str(folder), str(tmp_path), file) == expected
    assert find_inception(str(tmp_path), str(folder), file) == expected
    assert find_inception(str(tmp_path), str(tmp_path / "none"), file) is None


def test_an_altered_file_is_refused_before_it_is_opened(folder, tmp_path):
    from lightning_modules.osgan.inception import InceptionFeatures

    with pytest.raises(UserError, match=r"not the published file.* SHA-256 expected 6726825d"):
        find_inception(str(folder), str(tmp_path))
    with pytest.raises(UserError, match="It was not opened"):
        InceptionFeatures(folder / INCEPTION.path)


def test_the_whole_hash_begins_as_the_published_name_says():
    assert all(len(digest) == 64 and digest.startswith("6726825d") for digest in INCEPTION.sha256)


def test_looking_for_the_file_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from lightning_modules.osgan.inception_weights import find_inception;"
        f"assert find_inception({str(tmp_path)!r}, {str(tmp_path)!r}) is None;"
        "assert not {'torch', 'torch_fidelity'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow  # the eigenvalues of 2048 x 2048 numbers
def test_grey_and_coloured_images_are_judged_as_fid_and_kid(folder, file):
    from lightning_modules.osgan.distances import measure
    from lightning_modules.osgan.inception import InceptionFeatures

    features = InceptionFeatures(folder / INCEPTION.path, file)
    grey = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = measure(features, [grey], [grey.expand(-1, 3, -1, -1)], name="inception")
    assert list(found) == ["fid", "kid"]
    assert found["fid"] == pytest.approx(0, abs=1e-6)


def test_distances_on_these_features_alone_are_called_fid_and_kid(folder, file):
    from lightning_modules.osgan.distances import Judge
    from lightning_modules.osgan.inception import InceptionFeatures

    state = torch.get_rng_state()
    features = InceptionFeatures(folder / INCEPTION.path, file).train()
    assert torch.equal(torch.get_rng_state(), state)
    assert not features.network.training
    assert Judge(features, "inception").keys == ("fid", "kid")
    with pytest.raises(ValueError, match="'classifier' must not be a InceptionFeatures"):
        Judge(features, "classifier")


def test_the_features_are_those_of_torch_fidelity_on_bytes(folder, file):
    from lightning_modules.osgan.inception import InceptionFeatures

    pixels = torch.randint(0, 256, (1, 3, 8, 8), generator=torch.Generator().manual_seed(1)).byte()
    features = InceptionFeatures(folder / INCEPTION.path, file)
    assert torch.equal(features(pixels / 255), features.network(pixels)[0])
    assert features(pixels / 255).shape == (1, features.num_features)
