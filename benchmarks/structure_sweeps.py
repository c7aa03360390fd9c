"""LSP and what it is compared with over seeds, on the generated stand-ins for PPI and ModelNet40.

    python -m benchmarks.structure_sweeps
    python -m benchmarks.structure_sweeps --only lsp_mini_ppi full_mini_ppi --seeds 2

Every run is the command that stands with it in ``benchmarks/results/structure.json``. Then ``python -m
benchmarks.reproduce --report-only`` writes the rows into RESULTS.md.
"""

import json
from dataclasses import dataclass

from benchmarks.reproduce import Experiment
from benchmarks.structure_page import (
    FILE,
    LAST_LSP,
    LAST_PLAIN,
    LAST_RELEASE,
    LAST_TEACHER,
    LSP,
    PLAIN,
    RELEASE,
    TEACHER,
    draw_pictures,
    structure_table,
)
from benchmarks.sweeps import Line, run_sweep, sweep_parser


@dataclass(frozen=True)
class Method:
    """A line of the table.

    Attributes:
        key: short name.
        title: what the table calls it.
        model: choice of the group ``model``.
        data: choice of the group ``data``.
        overrides: further words of the command.
        teacher: further words of a teacher's that is fitted for the command.
    """

    key: str
    title: str
    model: str
    data: str
    overrides: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()

    def experiment(self, seed: int) -> Experiment:
        """What is run with one seed; a student of mini_ppi has a teacher of the same seed."""
        words = self.overrides
        if self.model == "lsp":
            teacher = ["model=inductive_gat", f"data={self.data}", f"seed={seed}", *self.teacher]
            words = (*words, f"model.requires.teacher={json.dumps(teacher, separators=(',', ':'))}")
        return Experiment(self.key, self.title, self.model, self.data, words)


MODES = (
    ("full", PLAIN, ("model.distill=full",)),
    ("kd", "KD", ("model.distill=kd",)),
    ("fitnet", "FitNet", ("model.distill=fitnet",)),
    ("at", "AT", ("model.distill=at",)),
    ("lsp", LSP, ()),
    ("lsp_kd", "LSP + KD", ("model.distill=lsp+kd",)),
)
AS_RELEASED = ("model.kernel=l1exp", "model.lsp_weight=1", "model.lsp_until=30")
ABLATIONS = (
    ("release", RELEASE, AS_RELEASED),
    ("weight_1", "LSP, lambda 1", ("model.lsp_weight=1",)),
    ("weight_100", "LSP, lambda 100", ("model.lsp_weight=100",)),
    ("reversed", "LSP, KL the other way", ("model.kl=student_teacher",)),
    ("linear", "LSP, linear", ("model.kernel=linear", "model.lsp_weight=1")),
    ("poly", "LSP, poly", ("model.kernel=poly", "model.lsp_weight=1")),
    ("l2", "LSP, l2 as published", ("model.kernel=l2", "model.lsp_weight=1")),
    ("neg_l2", "LSP, -l2", ("model.kernel=neg_l2", "model.lsp_weight=1")),
    ("two_pairs", "LSP, both hidden layers", ("model.layer_pairs=[[1,1],[2,2]]",)),
)
LAST_EPOCH = ("callbacks.best_weights.monitor=null",)
NO_LOOPS = ("data.self_loops=false",)
OTHER_TEACHERS = (
    # the authors' code keeps a copy of the best teacher, but distils the one of the last epoch
    ("last_full", LAST_PLAIN, ("model.distill=full",), LAST_EPOCH),
    ("last_lsp", LAST_LSP, (), LAST_EPOCH),
    ("last_release", LAST_RELEASE, AS_RELEASED, LAST_EPOCH),
    ("no_loops_full", f"{PLAIN}; no self-loops", ("model.distill=full", *NO_LOOPS), NO_LOOPS),
    ("no_loops_lsp", f"{LSP}; no self-loops", NO_LOOPS, NO_LOOPS),
)
EDGES = (
    ("teacher_edges", "LSP, edges of the teacher", ("model.edges=teacher",)),
    ("student_edges", "LSP, edges of the student", ("model.edges=student",)),
)
METHODS = [
    Method("teacher_mini_ppi", TEACHER, "inductive_gat", "mini_ppi"),
    *(Method(f"{key}_mini_ppi", title, "lsp", "mini_ppi", words) for key, title, words in MODES),
    *(Method(f"{key}_mini_ppi", title, "lsp", "mini_ppi", words) for key, title, words in ABLATIONS),
    Method("last_teacher_mini_ppi", LAST_TEACHER, "inductive_gat", "mini_ppi", LAST_EPOCH),
    *(
        Method(f"{key}_mini_ppi", title, "lsp", "mini_ppi", words, teacher)
        for key, title, words, teacher in OTHER_TEACHERS
    ),
    Method("teacher_mini_modelnet", TEACHER, "dgcnn", "mini_modelnet"),
    *(
        Method(f"{key}_mini_modelnet", title, "lsp_dgcnn", "mini_modelnet", words)
        for key, title, words in (*MODES, *EDGES)
    ),
]


LINES = [
    Line(method.key, method.key, method.experiment, {"method": method.key, "title": method.title})
    for method in METHODS
]


def main() -> None:
    """Runs what is missing, then writes the JSON and the pictures and prints the table."""
    arguments = sweep_parser(__doc__, LINES, "structure").parse_args()
    run_sweep(arguments, LINES, LINES, FILE, structure_table, draw_pictures)


if __name__ == "__main__":
    main()
