"""DEAL and what it is compared with over seeds, on generated street scenes: which images are worth a label.

    python -m benchmarks.acquisition_sweeps
    python -m benchmarks.acquisition_sweeps --only deal_ds random --seeds 3
    python -m benchmarks.acquisition_sweeps --only camvid_jpeg_deal_ds camvid_jpeg_random

The last line needs TENFOLD_DATA. Every run is the command that stands with it in
``benchmarks/results/acquisition.json``. Then ``python -m benchmarks.reproduce --report-only`` writes the rows
into RESULTS.md.
"""

from dataclasses import dataclass

from benchmarks.acquisition_page import FILE, FULL, SCENES, TITLES, acquisition_table, draw_pictures
from benchmarks.reproduce import Experiment
from benchmarks.sweeps import Line, Rows, always, run_sweep, sweep_parser


@dataclass(frozen=True)
class Strategy:
    """A line of the table.

    Attributes:
        key: short name.
        acquisition: choice of ``model.acquisition``, or :data:`FULL` for all images labelled at once.
        data: choice of the group ``data``.
        overrides: further words of the command.
    """

    key: str
    acquisition: str
    data: str
    overrides: tuple[str, ...] = ()

    def experiment(self) -> Experiment:
        """What is run."""
        title = TITLES[self.acquisition]
        if self.acquisition == FULL:
            return Experiment(self.key, title, "deeplab", self.data)
        words = (f"model.acquisition={self.acquisition}", *self.overrides)
        return Experiment(self.key, title, "deal", self.data, words)


# what matters most comes first, so that an interrupted call has it
ORDER = ("deal_ds", "random", "deal_de", "entropy", "coreset", "qbc", "margin", "least_confidence", FULL)
ON_SCENES = [Strategy(name, name, SCENES) for name in ORDER]
ON_CAMVID = [
    # without the file of weights, which has to be downloaded
    Strategy(f"camvid_jpeg_{name}", name, "camvid_jpeg", ("model.weights=null",))
    for name in ("deal_ds", "random")
]
STRATEGIES = [*ON_SCENES, *ON_CAMVID]


LINES = [
    Line(one.key, one.key, always(one.experiment()), {"acquisition": one.acquisition}) for one in STRATEGIES
]


def main() -> None:
    """Runs what is missing, then writes the JSON and the pictures and prints the table."""
    parser = sweep_parser(__doc__, LINES, "acquisition")
    parser.set_defaults(only=[strategy.key for strategy in ON_SCENES])  # those that need no data
    run_sweep(parser.parse_args(), LINES, LINES, FILE, _table_of_scenes, draw_pictures)


def _table_of_scenes(rows: Rows) -> str:
    return acquisition_table([row for row in rows if row["data"] == SCENES])


if __name__ == "__main__":
    main()
