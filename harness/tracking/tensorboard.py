"""TensorBoard's event files in the run folder."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from harness.errors import UserError


class TensorBoardTracker(TensorBoardLogger):
    """Curves, pictures, the results table and the configuration in ``<run folder>/tensorboard/``.

    The HPARAMS page compares runs by their test metrics; a run appears there once it was tested.

    Args:
        save_dir: the run folder.
    """

    goes_on: ClassVar[bool] = True
    """Drops rows of earlier sessions, see ``GuardedLogger``."""

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__(save_dir, name="tensorboard", version="", default_hp_metric=False)
        self._config: dict[str, Any] = {}
        self._tested: dict[str, float] = {}
        self._step = 0  # of the newest row
        self._first = 0  # the step at which this session begins

    @classmethod
    def check(cls) -> None:
        """Refuses to begin without the library.

        Raises:
            UserError: if it is not installed.
        """
        if find_spec("tensorboard") is None:
            raise UserError(
                "logger=tensorboard needs the package tensorboard, which is not installed. Install it with"
                " `pip install -c constraints.txt tensorboard`, or choose logger=csv."
            )

    @classmethod
    def preload(cls) -> None:
        """Imports what the start of a run imports."""
        import torch.utils.tensorboard  # noqa: F401

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer; makes its file when first asked for."""
        if self._experiment is None:
            self._first = max(_last_step(self.log_dir), 0)
            # of the step at which an earlier session was killed, a part may be there: it is written again,
            # and TensorBoard does not show what a file before this one has from there on
            self._kwargs["purge_step"] = self._first or None
        return super().experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._config = dict(params)
        text = yaml.safe_dump(self._config, sort_keys=False, allow_unicode=True)
        self.experiment.add_text("config", f"```yaml\n{text}```")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = self._step if step is None else step
        self._tested |= {name: value for name, value in metrics.items() if name.startswith("test/")}
        if self.experiment is not None and step >= self._first:
            super().log_metrics(metrics, step)
        self._step = step

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        """Shows PNG files.

        Args:
            key: their name on the dashboard.
            images: paths.
            step: which step they belong to; None takes that of the newest row.
        """
        import numpy as np
        from PIL import Image

        step = self._step if step is None else step
        for number, path in enumerate(images):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))  # [height, width, 3]
            name = key if len(images) == 1 else f"{key}/{number}"
            self.experiment.add_image(name, pixels, step, dataformats="HWC")

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: list[list[Any]], step: int | None = None) -> None:
        """Shows a table as text."""
        rows = [columns, ["---"] * len(columns), *data]
        lines = ["| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in rows]
        self.experiment.add_text(key, "\n".join(lines), self._step if step is None else step)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()  # and no hparams.yaml: config.yaml holds them

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._experiment is None:
            return
        if self._tested and status == "success":
            self._describe_for_comparison()
        self.experiment.close()
        self._experiment = None

    def _describe_for_comparison(self) -> None:
        from lightning_fabric.utilities.logger import _flatten_dict
        from torch.utils.tensorboard.summary import hparams

        flat = {key: _plain(value) for key, value in _flatten_dict(self._config).items()}
        for summary in hparams(flat, self._tested):
            self.experiment._get_file_writer().add_summary(summary)


def _last_step(folder: str) -> int:
    """The highest step of all numbers in a folder of event files; -1 where there is none."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not any(Path(folder).glob("events.out.tfevents.*")):
        return -1
    events = EventAccumulator(folder, size_guidance={"scalars": 1, "images": 1, "tensors": 1})
    events.Reload()
    return max((events.Scalars(name)[-1].step for name in events.Tags()["scalars"]), default=-1)


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)
