"""The weight file of FID's network: where it is looked for, and what vouches for it.

It is the file that torch-fidelity published with its version 0.2.0 (96 MB, Google's network of 2015-12-05),
and is never downloaded here. No torch in here: whether there is a FID can be told before anything heavy is
imported.
"""

import hashlib
import importlib.util
from pathlib import Path

from datamodules.download import RemoteFile, locate
from harness.errors import UserError

INCEPTION = RemoteFile(
    path="inception/weights-inception-2015-12-05-6726825d.pth",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    sha256=("6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",),
)
"""The hash's first digits are part of the published name; the rest is as several users of the file record it.
We have not had the file itself."""


def find_inception(root: str, cache: str, file: RemoteFile = INCEPTION) -> Path | None:
    """The weights of FID's network, or None where they or the package torch-fidelity are missing.

    Args:
        root: folder of data sets (``paths.data``), looked into first.
        cache: second place (``paths.cache``).
        file: which file.

    Raises:
        UserError: the file is there but is not the published one.
    """
    path = locate(file, root, cache)
    if path is None or importlib.util.find_spec("torch_fidelity") is None:
        return None
    with path.open("rb") as stream:
        check_inception(path, hashlib.file_digest(stream, "sha256").hexdigest(), file)
    return path


def check_inception(path: Path, sha256: str, file: RemoteFile = INCEPTION) -> None:
    """Compares the SHA-256 of ``path`` with the published file's.

    Raises:
        UserError: they differ.
    """
    if sha256 not in file.sha256:
        raise UserError(
            f"{path} is not the published file (altered or truncated): SHA-256 expected {file.sha256[0]},"
            f" found {sha256}. It was not opened. Fetch it again from {file.url}, or remove it to have"
            " generated images judged without FID."
        )
