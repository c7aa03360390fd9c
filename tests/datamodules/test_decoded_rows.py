"""An array of rows that follows its files: what is copied, what is decoded, and what stays on disk."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

import datamodules.decoded as decoded
from datamodules.decoded_rows import Decode, cached_rows
from harness.errors import UserError

SHAPE = (1, 2, 3)


class Source:
    """Files whose content is a number; counts what is decoded."""

    def __init__(self, cache: Path, stem: str = "mine_2x3_abc") -> None:
        self.cache, self.stem = cache, stem
        self.decoded: list[str] = []

    def array(self, files: dict[str, int], facts: str = "plain") -> Tensor:
        """The array of files ``{name: number}``."""
        names = list(files)

        def row(number: int) -> NDArray[np.uint8]:
            self.decoded.append(names[number])
            return np.full(SHAPE, files[names[number]], np.uint8)

        def decoder() -> Decode:
            return row

        rows = [[name, content] for name, content in files.items()]
        made = cached_rows("mine", self.stem, [facts], rows, SHAPE, str(self.cache), decoder)
        assert made[:, 0, 0, 0].tolist() == list(files.values())
        assert made.shape == (len(files), *SHAPE)
        return made

    def taken(self) -> list[str]:
        """Names that were decoded since the last call."""
        found, self.decoded = sorted(self.decoded), []
        return found

    def kept(self) -> list[str]:
        """Endings of what is kept."""
        place = self.cache / "decoded"
        return sorted(path.suffix for path in place.iterdir() if path.name.startswith(self.stem))


ONE = [".json", ".lock", ".npy", ".sha256"]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def test_only_new_and_changed_files_are_decoded_wherever_their_rows_are(source: Source) -> None:
    files = {"b": 1, "d": 2, "f": 3}
    source.array(files)
    assert source.taken() == ["b", "d", "f"]
    source.array(files)
    assert source.taken() == []
    source.array({"a": 4, "b": 1, "c": 5, "d": 2, "f": 3})
    assert source.taken() == ["a", "c"]
    source.array({"a": 4, "c": 5, "d": 9, "f": 3})
    assert source.taken() == ["d"], "another content"
    source.array({"f": 3, "a": 4})
    assert source.taken() == [], "another order"
    assert source.kept() == ONE


def test_rows_made_by_other_facts_or_another_decoder_are_not_copied(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.array({"a": 1})
    source.array({"a": 1}, facts="other")
    assert source.taken() == ["a", "a"]
    monkeypatch.setattr("datamodules.decoded_rows.DECODERS", ["another Pillow"])
    source.array({"a": 1, "b": 2}, facts="other")
    assert source.taken() == ["a", "b"]
    assert source.kept() == ONE


@pytest.mark.parametrize("damaged", [".npy", ".json", ".sha256"])
@pytest.mark.parametrize("how", ["changed", "gone", "empty"])
def test_what_is_damaged_is_not_copied_from(source: Source, damaged: str, how: str) -> None:
    source.array({"a": 1, "b": 2})
    source.taken()
    (path,) = (source.cache / "decoded").glob(f"*{damaged}")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.unlink()
    if how != "gone":
        path.write_bytes(content if how == "changed" else b"")
    source.array({"a": 1, "b": 2, "c": 3})
    assert source.taken() == ["a", "b", "c"]
    assert source.kept() == ONE


def test_what_belongs_to_others_is_not_deleted(source: Source, tmp_path: Path) -> None:
    source.array({"a": 1})
    place = tmp_path / "decoded"
    (mine,) = place.glob("*.npy")
    key = mine.stem.rpartition("_")[2]
    others = [
        f"mine_2x3_abd_{key}.npy",  # another folder
        f"mine_2x4_abc_{key}.npy",  # another size
        f"mine_2x3_abc_masks_{key}.npy",  # another kind
        f"xmine_2x3_abc_{key}.npy",
        f"mine_2x3_abc_{key}.npy.old",
        "mine_2x3_abc_notes.npy",
        f"mine_2x3_abc_{key}0.json",
    ]
    for name in others:
        (place / name).touch()
    source.array({"b": 1})
    assert not mine.exists()
    assert all((place / name).exists() for name in others)


def test_what_a_killed_run_has_left_is_cleared(source: Source) -> None:
    source.array({"a": 1})
    for suffix in (".part", ".json", ".npy"):
        (source.cache / "decoded" / f"{source.stem}_{'0' * 16}{suffix}").write_bytes(b"half")
    source.array({"a": 1, "b": 2})
    assert source.kept() == ONE


def test_an_array_that_is_mapped_outlives_its_file(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "DEVICE_BYTES", 1)
    first = source.array({"a": 1, "b": 2})
    (path,) = (source.cache / "decoded").glob("*.npy")
    second = source.array({"a": 3, "b": 2})
    assert not path.exists()
    assert (first[:, 0, 1, 1].tolist(), second[:, 0, 1, 1].tolist()) == ([1, 2], [3, 2])


def test_some_at_once_that_see_other_files_all_end_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each holds a lock of its own opening, as two processes do."""

    def work(worker: int) -> None:
        source, draws = Source(tmp_path), random.Random(worker)
        for _ in range(15):
            source.array({f"{number}": number for number in range(draws.randint(1, 4))})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert Source(tmp_path).kept() == ONE
    assert not caplog.text, "nobody lost an array to another and decoded it in memory"


def test_an_array_is_opened_while_nobody_can_replace_it(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def guarded(path: Path) -> Tensor:
        with pytest.raises(Timeout):
            FileLock(path.parent / f"{source.stem}.lock").acquire(timeout=0)
        opened.append(path)
        return decoded.loaded(path)

    monkeypatch.setattr("datamodules.decoded_rows.loaded", guarded)
    source.array({"a": 1})
    source.array({"a": 1})
    assert len(opened) == 2


def test_a_cache_that_cannot_be_written_costs_a_warning_or_is_told(
    source: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (source.cache / "decoded").write_text("in the way")
    source.array({"a": 1, "b": 2})
    assert "decoded in memory" in caplog.text
    monkeypatch.setattr(decoded, "DEVICE_BYTES", 1)
    with pytest.raises(UserError, match=r"data=mine: .* cannot be written .* Set paths\.cache"):
        source.array({"a": 1, "b": 2})
