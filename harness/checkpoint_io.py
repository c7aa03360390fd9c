"""How the bytes of a checkpoint get to the disk."""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO


class PlainCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to the very path that is given, which ``write_atomically`` then moves into place.

    Lightning's own writes to the machine's folder of temporary files first, which may be full or on another
    disk, and where a killed process leaves its file for ever.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        # by way of memory: torch.save to a file tells of a full disk as of an error of its own
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).write_bytes(buffer.getbuffer())
