"""Data that are missing, spoilt, real, or of another task."""

import shutil
from pathlib import Path

import pytest

import run
from datamodules.planetoid import planetoid_files
from harness.configuration import targets
from tests.command_lines import ROOT, Output, command, refusal

pytestmark = pytest.mark.usefixtures("as_before")


@pytest.fixture
def cora(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of Cora's raw files that may be spoilt."""
    names = [file.path for file in planetoid_files("Cora").values()]
    if not all((shared_data / name).is_file() for name in names):
        pytest.skip(f"Cora is not in {shared_data}")
    for name in names:
        copy = tmp_path / "data" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data / name, copy)
    return tmp_path / "data" / "planetoid" / "Cora" / "raw"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("data", ["cora", "citeseer", "pubmed", "photo"])
def test_data_that_is_neither_here_nor_to_be_had_is_a_user_s_mistake(
    tmp_path: Path, capsys: Output, data: str
) -> None:
    err = refusal(tmp_path, capsys, "model=gat", f"data={data}")
    assert f"data={data}: " in err
    assert "paths.data=<folder>" in err
    assert "data=digits_graph" in err


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
@pytest.mark.parametrize("name", ["ind.cora.allx", "ind.cora.test.index"])
def test_a_spoilt_raw_file_is_a_user_s_mistake(
    cora: Path, tmp_path: Path, capsys: Output, name: str, damage: str
) -> None:
    path = cora / name
    content = path.read_bytes()
    middle = len(content) // 2
    spoilt = {
        "truncated": content[:middle],
        "altered": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "empty": b"",
    }
    path.write_bytes(spoilt[damage])
    err = refusal(tmp_path, capsys, "model=gat", "data=cora")
    assert str(path) in err
    assert "altered or truncated" in err
    assert path.read_bytes() == spoilt[damage], "it may be the user's only copy"


@pytest.mark.usefixtures("no_network")
def test_real_data_trains_without_a_network(cora: Path, tmp_path: Path, capsys: Output) -> None:
    assert command(tmp_path, "model=gcn", "data=cora", "trainer.max_epochs=2", "~callbacks.pictures") == 0
    out, _ = capsys.readouterr()
    assert "published 81.5 % (Kipf and Welling 2017" in out


def test_a_method_for_another_task_names_the_data_that_serve_it(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_run.py").write_text(
        "from pytorch_lightning import LightningDataModule\n\n\n"
        "class Words(LightningDataModule):\n    tasks = ('reading',)\n"
    )
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "data" / "words.yaml").write_text("# Words\n_target_: toy_run.Words\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(targets, "OWN_PACKAGES", (*targets.OWN_PACKAGES, "toy_run"))
    monkeypatch.setattr(run, "CONF", tmp_path / "conf")
    err = refusal(tmp_path, capsys, "model=mlp", "data=words", "model.in_channels=3", "model.num_classes=2")
    assert "model=mlp does node_classification, but data=words serves only reading" in err
    assert "cora" in err
    assert "mini_citation" in err
