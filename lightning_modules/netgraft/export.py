"""The plain student as a file that runs without this project."""

import importlib.util
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.files import write_atomically
from harness.run_log import tell

Format = Literal["torch", "onnx"]
FILES: dict[Format, str] = {"torch": "student.pt2", "onnx": "student.onnx"}
"""Name of the file by format."""

TOLERANCE = 1e-4
"""Largest difference to the network itself, relative to its largest logit."""


def export_student(student: nn.Module, example: Tensor, folder: Path, kind: Format) -> Path:
    """Writes ``student`` and reads it again to compare its logits.

    Args:
        student: in evaluation mode, on the CPU.
        example: two normalised images ``[2, C, H, W]`` or more; a file takes any number.
        folder: where to.
        kind: ``torch``, for ``torch.export.load(path).module()``, or ``onnx``.

    Returns:
        The file.

    Raises:
        UserError: ``onnx`` is wanted and its packages are not there.
        RuntimeError: what was read again gives other logits.
    """
    path = folder / FILES[kind]
    write = _write_torch if kind == "torch" else _write_onnx
    again = write(student, example, path)
    with torch.no_grad():
        expected = student(example)
    difference = float((again - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
    if difference > TOLERANCE:
        path.unlink()
        raise RuntimeError(f"the exported student is not the trained one: it differs by {difference:.1e}")
    tell(f"plain student in {path}; its logits are within {difference:.0e} of the trained one's")
    return path


def _write_torch(student: nn.Module, example: Tensor, path: Path) -> Tensor:
    shapes = {"input": {0: torch.export.Dim("batch")}}
    program = torch.export.export(student, (example,), dynamic_shapes=shapes)
    write_atomically(path, lambda temporary: torch.export.save(program, temporary))
    with torch.no_grad():
        logits: Tensor = torch.export.load(path).module()(example)
    return logits


def _write_onnx(student: nn.Module, example: Tensor, path: Path) -> Tensor:
    missing = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise UserError(
            f"model.export=onnx needs {', '.join(missing)}: pip install 'tenfold[onnx]'. model.export=torch"
            " needs nothing more."
        )
    import onnxruntime

    shapes = {"input": {0: torch.export.Dim("batch")}}
    program: Any = torch.onnx.export(student, (example,), dynamic_shapes=shapes, dynamo=True, verbose=False)
    write_atomically(path, lambda temporary: program.save(temporary))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = session.run(None, {session.get_inputs()[0].name: example.numpy()})[0]
    return torch.from_numpy(logits)
