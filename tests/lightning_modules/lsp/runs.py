"""Small runs of LSP on the stand-in for PPI, with a teacher that was not trained."""

from pathlib import Path

import torch

from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module, build_trainer
from harness.phases import fit_phases
from lightning_modules.lsp.inductive_gat import InductiveGAT
from lightning_modules.lsp.module import LSP
from tests.small_runs import configuration

SMALL = ("model=lsp", "data=mini_ppi", "trainer.max_epochs=3")


def teacher() -> InductiveGAT:
    """As a prerequisite arrives: frozen, in evaluation mode."""
    config = configuration("model=inductive_gat", "data=mini_ppi")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = build_module(config)
    assert isinstance(made, InductiveGAT)
    return made.eval().requires_grad_(False)


def fitted(folder: Path, *overrides: str) -> Run:
    """A run that was trained and tested, its pictures in ``folder``."""
    config = configuration(*SMALL, *overrides, pictures=True)
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    assert isinstance(module, LSP)
    module.on_prerequisites({"teacher": teacher()})
    callbacks, loggers = build_callbacks(config["callbacks"]), build_loggers(config["logger"], folder)
    run = Run(config, folder, module, build_datamodule(config), callbacks, loggers)
    fit_phases(run)
    build_trainer(run).test(module, datamodule=run.datamodule, verbose=False)
    return run
