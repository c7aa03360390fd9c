"""W&B without a network, an account or noise."""

from typing import Any

from pytorch_lightning.loggers import WandbLogger


class OfflineWandb(WandbLogger):
    """Logs to files in the run folder, which ``wandb sync`` uploads later.

    Args:
        project: project on the dashboard.
        save_dir: folder of the files; the harness gives the run folder.
        name: name of the run; the harness gives model, data, time and id.
    """

    def __init__(self, project: str, save_dir: str = ".", name: str | None = None) -> None:
        super().__init__(project=project, save_dir=save_dir, name=name, offline=True)
        # Lightning hands over an argument that W&B has given up, and W&B warns on the console each time
        self._wandb_init.pop("anonymous", None)

    def finalize(self, status: str) -> None:
        """Called after every phase and test; the run itself is ended by :meth:`close`."""

    def close(self, failed: bool) -> None:
        """Ends the run; without it, the next run of this process would write into this one."""
        run: Any = self._experiment
        if run is not None:
            run.finish(exit_code=int(failed))
            self._experiment = None
