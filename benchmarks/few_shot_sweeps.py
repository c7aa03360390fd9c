"""NetGraft and its baselines over the number of images, seeds and draws of the images.

    python -m benchmarks.few_shot_sweeps --data <folder of data sets>
    python -m benchmarks.few_shot_sweeps --only netgraft_shapes few_shot_kd_shapes --seeds 2

Every run is the command that stands with it in ``benchmarks/results/few_shot.json``; the teacher of a data
set is trained once. Then ``python -m benchmarks.reproduce --report-only`` writes the rows into RESULTS.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.few_shot_page import FILE, GRAFTED, SCRATCH, draw_pictures, few_shot_table
from benchmarks.reproduce import Experiment
from benchmarks.sweeps import Line, always, run_sweep, sweep_parser

SHOTS = (1, 5, 10)


@dataclass(frozen=True)
class Method:
    """A line of the table for each number of images.

    Attributes:
        key: short name.
        title: what the table calls it.
        model: choice of the group ``model``.
        data: choice of the group ``data``.
        overrides: further words of the command.
        seeds: how many of the asked seeds it runs at most.
        draws: likewise of the sample seeds.
        shots: images of each class; empty for a method that sees all.
    """

    key: str
    title: str
    model: str
    data: str
    overrides: tuple[str, ...] = ()
    seeds: int = 3
    draws: int = 1
    shots: tuple[int, ...] = SHOTS

    def experiments(self, draws: int) -> Iterator[tuple[int | None, int, Experiment]]:
        """Number of images, sample seed, and what is run with them over seeds."""
        if not self.shots:
            yield None, 0, Experiment(self.key, self.title, self.model, self.data, self.overrides, self.seeds)
        for shots in self.shots:
            for draw in range(min(self.draws, draws)):
                words = (*self.overrides, f"model.shots={shots}", f"model.sample_seed={draw}")
                key = f"{self.key}_K{shots}_draw{draw}"
                yield shots, draw, Experiment(key, self.title, self.model, self.data, words, self.seeds)


STUDENT_OF_JPEG = (
    "model.network=vgg_small_half",
    "model.optimizer={name: Adam, lr: 0.002}",
    "~model.scheduler",
    "+model.scheduler={name: OneCycleLR, max_lr: 0.002}",
    "model.scheduler_interval=step",
    "trainer.max_epochs=15",
    "data.num_val=0",
)
"""As conf/experiment/netgraft_cifar10_jpeg.yaml trains the teacher."""

DIRECT = (
    "model.stage1=false",
    "model.stage2=at_once",
    "model.stage2_epochs=300",
    "model.lr_stage2=1e-3",
    "trainer.max_epochs=300",
)
"""The grafted blocks at once, in as many steps as NetGraft takes, 600, as its specification tried it."""

METHODS = [
    Method("netgraft_shapes", GRAFTED, "netgraft", "shapes", (), 5, 3),
    Method("few_shot_kd_shapes", SCRATCH, "few_shot_kd", "shapes"),
    Method("few_shot_fitnet_shapes", "FitNet", "few_shot_fitnet", "shapes"),
    Method("few_shot_fskd_shapes", "FSKD-like", "few_shot_fskd", "shapes"),
    Method("stage1_shapes", "stage 1 only", "netgraft", "shapes", ("model.stage2=none",)),
    Method("random_shapes", "joined in random order", "netgraft", "shapes", ("model.stage2=random",)),
    Method("at_once_shapes", "joined at once", "netgraft", "shapes", ("model.stage2=at_once",)),
    Method("mse_shapes", "squared loss", "netgraft", "shapes", ("model.loss=mse",)),
    Method("direct_shapes", "direct suffix", "netgraft", "shapes", DIRECT),
    Method(
        "student_shapes",
        "student, all labelled images",
        "classifier",
        "shapes",
        # without normalisation, the teacher's nine epochs are too few for it
        ("model.network=vgg_small_half", "trainer.max_epochs=30"),
        3,
        shots=(),
    ),
    Method("netgraft_cifar10_jpeg", GRAFTED, "netgraft", "cifar10_jpeg"),
    Method(
        "student_cifar10_jpeg",
        "student, all labelled images",
        "classifier",
        "cifar10_jpeg",
        STUDENT_OF_JPEG,
        1,
        shots=(),
    ),
]


def lines_of(methods: Sequence[Method], draws: int) -> list[Line]:
    """A line for each method, number of images and draw of them.

    Args:
        methods: which.
        draws: sample seeds 0 to N-1 at most.
    """
    return [
        Line(
            experiment.key,
            method.key,
            always(experiment),
            {"method": method.key, "title": method.title, "shots": shots, "sample_seed": draw},
            experiment.seeds,
        )
        for method in methods
        for shots, draw, experiment in method.experiments(draws)
    ]


def main() -> None:
    """Runs what is missing, then writes the JSON and the pictures and prints the table."""
    lines = lines_of(METHODS, max(method.draws for method in METHODS))
    parser = sweep_parser(__doc__, lines, "few_shot")
    parser.add_argument("--draws", type=int, default=3, help="sample seeds 0 to N-1 at most (default 3)")
    arguments = parser.parse_args()
    asked = lines_of(METHODS, arguments.draws)
    run_sweep(arguments, asked, lines, FILE, few_shot_table, draw_pictures)


if __name__ == "__main__":
    main()
