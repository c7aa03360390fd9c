"""Pictures of a finished run."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import harness.curves
from callbacks.pictures import Pictures
from harness.metrics_csv import MetricsCSV
from tests.small_runs import FittedRun, fit

PNG = b"\x89PNG\r\n\x1a\n"
SPAGAN = ("model=spagan", "data=mini_citation", "trainer.max_epochs=4")


class Dashboard(MetricsCSV):
    """A logger that can show images."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.images: dict[str, list[Any]] = {}

    def log_image(self, key: str, images: list[Any], **keywords: Any) -> None:
        self.images[key] = images


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[FittedRun, Dashboard]:
    folder = tmp_path_factory.mktemp("drawn")
    run = fit(folder, *SPAGAN, pictures=True)
    dashboard = Dashboard(folder / "dashboard.csv")
    run.loggers.append(dashboard)
    run.test()
    return run, dashboard


def test_every_picture_is_a_png_in_the_run_folder(drawn: tuple[FittedRun, Dashboard]) -> None:
    files = sorted((drawn[0].folder / "figures").iterdir())
    assert {path.name for path in files} >= {
        "training_curves.png",
        "method_comparison.png",
        "edge_costs.png",
        "path_counts.png",
        "length_attention.png",
        "path_attention.png",
        "label_agreement.png",
        "neighbourhood.png",
    }
    for path in files:
        content = path.read_bytes()
        assert content.startswith(PNG)
        assert len(content) > 5_000


def test_loggers_that_show_images_get_the_same_files(drawn: tuple[FittedRun, Dashboard]) -> None:
    run, dashboard = drawn
    files = {f"figures/{path.stem}": [str(path)] for path in (run.folder / "figures").iterdir()}
    assert dashboard.images == files


def test_curves_show_both_phases_with_their_best_epochs_and_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(harness.curves, "training_curves", lambda *args: calls.append(args) or Figure())
    run = fit(tmp_path, *SPAGAN, pictures=True)
    tested = run.test()["test/acc"]
    ((rows, marks, published),) = calls
    assert [row["epoch"] for row in rows] == list(range(8))
    assert {"train/loss", "train/acc", "val/loss", "val/acc"} <= set(rows[0])
    best = run.record.best_epochs
    assert [(mark.name, mark.start, mark.best) for mark in marks] == [
        ("attention", 0, best["attention"]),
        ("paths", 4, 4 + best["paths"]),
    ]
    assert marks[-1].test == tested
    assert published is None


def test_the_published_value_is_drawn_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(harness.curves, "training_curves", lambda *args: calls.append(args) or Figure())
    run = fit(tmp_path, "model=mlp", "data=mini_citation", "trainer.max_epochs=1", pictures=True)
    pictures = next(callback for callback in run.callbacks if isinstance(callback, Pictures))
    pictures.published = {"metric": "test/acc", "value": 0.55, "spread": None, "source": "somebody 2020"}
    run.test()
    assert (calls[0][2].value, calls[0][2].spread) == (0.55, None)


def test_a_test_without_training_has_no_curves(tmp_path: Path) -> None:
    run = fit(tmp_path, "model=mlp", "data=mini_citation", "trainer.max_epochs=1")
    run.callbacks[:] = [Pictures()]
    run.test()
    assert list((tmp_path / "figures").iterdir()) == []


def test_a_graph_without_validation_nodes_is_drawn_too(tmp_path: Path) -> None:
    run = fit(tmp_path, "model=spagan", "data=relay_graph", "trainer.max_epochs=2", pictures=True)
    run.test()
    assert (tmp_path / "figures" / "training_curves.png").read_bytes().startswith(PNG)


def test_other_ranks_draw_nothing(tmp_path: Path) -> None:
    from types import SimpleNamespace

    trainer: Any = SimpleNamespace(is_global_zero=False, default_root_dir=tmp_path)
    module: Any = None
    Pictures().on_test_end(trainer, module)
    assert list(tmp_path.iterdir()) == []


def test_their_state_goes_through_a_checkpoint(tmp_path: Path) -> None:
    run = fit(tmp_path, "model=mlp", "data=mini_citation", "trainer.max_epochs=2", pictures=True)
    before = next(callback for callback in run.callbacks if isinstance(callback, Pictures))
    after = Pictures()
    after.load_state_dict(before.state_dict())
    assert after.state_dict() == before.state_dict()
    assert len(before.state_dict()["rows"]) == 2
