"""Members of a zip archive, read in memory: nothing is written to disk, so that no name can lead astray."""

import io
import zipfile
import zlib
from collections.abc import Sequence

from harness.errors import UserError


def zip_members(content: bytes, names: Sequence[str], limit: int, label: str) -> dict[str, bytes]:
    """Contents of some members.

    Args:
        content: the archive.
        names: members that must be there, the folder included; others stay closed.
        limit: bytes that a member may have unpacked: a small archive can hold an endless one.
        label: which file, for messages.

    Raises:
        UserError: it is no zip archive or a broken one, or a member is missing or too large.
    """
    again = "Delete it and run again to download it."
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            for name in names:
                if name not in sizes:
                    raise UserError(f"{label} lacks {name}: it holds {sorted(sizes)}. {again}")
                if sizes[name] > limit:
                    raise UserError(
                        f"{label}: {name} would take {sizes[name]} bytes, and no more than {limit} are read. "
                        f"{again}"
                    )
            # of a member that goes on beyond its stated size no more than that is read
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise UserError(f"{label} cannot be unpacked ({error}). {again}") from error
