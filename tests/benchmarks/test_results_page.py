"""The page that `make reproduce` writes."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import results_page
from benchmarks.report import Table, write_report
from benchmarks.reproduce import ALL, Experiment, finished
from benchmarks.results_page import paired_difference, write_page


def row(key: str, seed: int, gat: float | None, acc: float) -> dict[str, Any]:
    metrics = {"test/acc": acc} | ({} if gat is None else {"test/acc_gat": gat})
    return {
        "experiment": key,
        "seed": seed,
        "metrics": metrics,
        "published": {"metric": "test/acc", "value": 0.836, "spread": 0.005, "source": "a paper"},
        "seconds": {"attention": 2.0, "paths": 3.0},
        "hardware": {"cpu": "a processor", "gpus": [], "precision": "32-true", "threads": 1},
        "versions": {"python": "3.11"},
        "commit": "0123456789abcdef",
        "dirty": False,
        "date": "2026-01-02",
    }


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a README to fill."""
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(results_page, "ROOT", tmp_path)
    monkeypatch.setattr(results_page, "RESULTS", tmp_path)
    return path


def test_a_paired_difference_worked_by_hand() -> None:
    # differences 1, 2, 3: mean 2, standard deviation 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt(3)
    found = paired_difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(2.0)
    assert found.high - found.mean == pytest.approx(2.484138, abs=1e-6)
    assert (found.wins, found.count) == (3, 3)


def test_an_interval_needs_two_pairs() -> None:
    with pytest.raises(ValueError, match="at least two pairs"):
        paired_difference([1.0], [0.0])


def test_unpaired_values_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])


def test_the_page_states_measured_beside_published_with_its_command(tmp_path: Path, readme: Path) -> None:
    experiment = Experiment("spagan_cora", "SPAGAN", "spagan", "cora")
    rows = [row("spagan_cora", 0, 0.82, 0.83), row("spagan_cora", 1, 0.84, 0.84)]
    write_page(tmp_path / "RESULTS.md", [experiment], [], [], [], rows)
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| Cora | GAT | 83.0 ± 1.4 | 82.0 to 84.0 | 2 |" in page
    assert "| Cora | SPAGAN | 83.5 ± 0.7 | 83.0 to 84.0 | 2 | 83.6 ± 0.5 | 5 |" in page
    assert "`python run.py model=spagan data=cora seed=0..1`" in page
    assert "a processor, 32-true, 1 thread(s) a run" in page
    assert "0123456789ab" in page
    text = readme.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("before\n<!-- results -->\n| data | method |")
    assert text.endswith("<!-- /results -->\nafter\n")


def test_a_run_that_never_trained_is_shown_but_not_compared(tmp_path: Path, readme: Path) -> None:
    experiment = Experiment("spagan_authors_cora", "SPAGAN, authors' initialisation", "spagan", "cora")
    rows = [
        row(experiment.key, 0, 0.82, 0.83),
        row(experiment.key, 1, 0.84, 0.15),
        row(experiment.key, 2, 0.81, 0.83),
    ]
    write_page(tmp_path / "RESULTS.md", [experiment], [], [], [], rows)
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "15.0 to 83.0" in page
    assert "| +1.50 |" in page
    assert "| 2 of 3 |" in page


def test_the_page_holds_the_tables_of_the_benchmarks_that_were_run(tmp_path: Path, readme: Path) -> None:
    write_report("path_search", [Table("times", [{"method": "ours", "ms": 1.0}])], tmp_path)
    write_page(tmp_path / "RESULTS.md", [], [], [], [], [])
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "### `python -m benchmarks.path_search`" in page
    assert "| ours | 1.00 |" in page
    assert "benchmarks.operations" not in page


def test_experiments_have_names_of_their_own() -> None:
    keys = [experiment.key for experiment in ALL]
    assert len(keys) == len(set(keys))


def test_a_run_without_results_counts_as_not_finished(tmp_path: Path) -> None:
    (tmp_path / "model_data" / "run").mkdir(parents=True)
    assert finished(tmp_path) is None
    (tmp_path / "model_data" / "run" / "results.json").write_text('{"seed": 3}', encoding="utf-8")
    assert finished(tmp_path) == {"seed": 3}
