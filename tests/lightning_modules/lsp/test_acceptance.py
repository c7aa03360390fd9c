"""What LSP must reach on the generated stand-in for PPI; section 5 of its specification."""

import statistics
from pathlib import Path

import pytest

from lightning_modules.lsp.inductive_gat import InductiveGAT
from lightning_modules.lsp.module import LSP
from tests.lightning_modules.lsp.networks import fitted
from tests.small_runs import FittedRun, fit

SEEDS = range(3)
WHOLE = "trainer.max_epochs=60"
METHODS = {
    "plain": ("model.distill=full",),
    "lsp": (),
    "release": ("model.kernel=l1exp", "model.lsp_weight=1", "model.lsp_until=30"),
}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_before")]


def test_it_brings_the_student_nearer_to_a_teacher_that_is_well_ahead(tmp_path: Path) -> None:
    """No gain in F1 is asked for: the specification found none.

    L_LSP is cut three times against the teacher of the last epoch, which the authors' code distils. Against
    the teacher that validation chose, whose embedding is less spread, RESULTS.md has what comes out.
    """
    ahead: list[float] = []
    f1: dict[str, list[float]] = {name: [] for name in METHODS}
    rulers: dict[str, list[float]] = {name: [] for name in ("plain", "lsp")}
    for seed in SEEDS:
        best, last = (
            fit(tmp_path / f"{name}{seed}", "model=inductive_gat", "data=mini_ppi", f"seed={seed}", *words)
            for name, words in (("best", ()), ("last", ("callbacks.best_weights.monitor=null",)))
        )
        ahead.append(best.test()["test/f1"])
        for name in ("plain", "release"):
            student, _ = _student(tmp_path / f"{name}{seed}", best, seed, name)
            f1[name].append(_tested(student, best))
        for name, found in rulers.items():
            found.append(_student(tmp_path / f"{name}{seed}_of_last", last, seed, name)[1])
    means = {name: statistics.mean(found) for name, found in f1.items() if found}
    assert statistics.mean(ahead) >= means["plain"] + 0.04
    assert abs(means["release"] - means["plain"]) <= 0.03
    assert statistics.mean(rulers["plain"]) >= 3 * statistics.mean(rulers["lsp"])


def _student(folder: Path, run: FittedRun, seed: int, name: str) -> tuple[LSP, float]:
    """A student of a run's teacher, and its L_LSP."""
    assert isinstance(run.module, InductiveGAT)
    teacher = run.module.eval().requires_grad_(False)
    student, record = fitted(folder, teacher, WHOLE, f"seed={seed}", *METHODS[name])
    assert isinstance(student, LSP)
    return student, record.metrics["lsp_ruler"]


def _tested(student: LSP, run: FittedRun) -> float:
    """Micro-F1 on the test graphs."""
    student.eval()
    student.test_metrics.reset()
    for batch in run.datamodule.test_dataloader():
        student.test_step(batch, 0)
    return float(student.test_metrics.compute()["test/f1"])
