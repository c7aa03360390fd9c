"""What the benchmark of sweeps reads from the files of a sweep."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks.sweep_scaling import costs


def test_the_cost_of_a_job_is_its_time_less_its_training_and_test(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "one"
    folder.mkdir(parents=True)
    with (folder / "jobs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["job", "seconds", "run_folder"])
        for job, seconds in enumerate((5.0, 6.5)):
            run = tmp_path / f"run_{job}"
            run.mkdir()
            own = {"setup": 0.5, "attention": 2.0, "after attention": 0.25, "test": 1.0}
            (run / "results.json").write_text(json.dumps({"seconds": own}))
            writer.writerow([job, seconds, run])
    assert costs(tmp_path) == pytest.approx([1.75, 3.25])
