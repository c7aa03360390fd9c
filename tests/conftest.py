"""What several tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets; tests that need one skip where there is none."""
    named = os.environ.get("TENFOLD_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("set TENFOLD_DATA to a folder of data sets (see README)")
    return folder
