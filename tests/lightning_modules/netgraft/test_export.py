"""The plain student as a file of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.errors import UserError
from lightning_modules.netgraft import export
from lightning_modules.netgraft.export import export_student
from lightning_modules.netgraft.folding import fold_student
from tests.lightning_modules.netgraft.networks import SIZE, grafted, images


@pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore:::onnxscript")
@pytest.mark.parametrize("kind", ["vgg", "plain_cnn", "resnet"])
def test_an_exported_student_gives_its_logits_for_any_number_of_images(kind: str, tmp_path: Path) -> None:
    blocks = {"vgg": (1, 2, 3), "plain_cnn": (0, 1, 2, 3), "resnet": (0, 1, 2, 3, 4)}[kind]
    _, student = grafted(kind, blocks, dtype=torch.float32)
    plain, x = fold_student(student, 3, SIZE), images(7, torch.float32)
    expected = plain(x)
    path = export_student(plain, x[:2], tmp_path, "torch")
    assert path == tmp_path / "student.pt2"
    torch.testing.assert_close(torch.export.load(path).module()(x), expected)


@pytest.mark.filterwarnings("ignore")  # of the exporter's own dependencies
def test_an_onnx_file_gives_its_logits_without_torch(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    _, student = grafted("vgg", (1, 2, 3), dtype=torch.float32)
    plain, x = fold_student(student, 3, SIZE), images(7, torch.float32)
    path = export_student(plain, x[:2], tmp_path, "onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, plain(x).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg")
def test_a_file_with_other_logits_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, student = grafted("vgg", (1, 2, 3), dtype=torch.float32)
    plain, x = fold_student(student, 3, SIZE), images(2, torch.float32)
    write = export._write_torch
    monkeypatch.setattr(export, "_write_torch", lambda *arguments: write(*arguments) + 1.0)
    with pytest.raises(RuntimeError, match="is not the trained one"):
        export_student(plain, x, tmp_path, "torch")
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_told_with_the_command_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, student = grafted("vgg", (1, 2, 3), dtype=torch.float32)
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx, onnxscript, onnxruntime: pip install 'tenfold\[onnx\]'"):
        export_student(fold_student(student, 3, SIZE), images(2, torch.float32), tmp_path, "onnx")
