"""Time LSP's training step against the authors' procedure, and the union of two graphs against a sort.

    python -m benchmarks.lsp

The graphs are random and as large as one batch of PPI; the networks have the published sizes. Both ways
compute the same loss from the same weights, which is checked before anything is timed. Both use this
project's attention layers, so what differs is the distillation: the authors' procedure asks the teacher twice
a step and builds the differences of all edges' ends, edges x 1024 numbers. The kernel of their code is
``l1exp``, of absolute differences; ``rbf``, of squared ones, is their paper's and this project's default. The
whole step is timed with both, its parts with ``rbf``. Both ways take turns, also at being the first, so
that what else the machine does hits both alike; a ratio is the median over these pairs, with its quartiles.
Figures are CPU time of one thread. The union is compared with sorting edges as pairs of numbers, as graph
libraries hold them, and with sorting them as single numbers, which is the faster of the two.
EdgeConv is timed by ``python -m benchmarks.edge_conv``.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import Table, add_arguments, asked, write_report
from datamodules.graph_sets import GraphLoader, GraphSet, make_graph_set
from datamodules.loaders import EpochBatchSampler
from harness.run_log import quieten_libraries
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.targets import task_loss
from lightning_modules.lsp.clouds import CloudNeighbours
from lightning_modules.lsp.network import InductiveAttentionNetwork
from lightning_modules.lsp.structure import RULER, EdgeNeighbours, Kernel, log_structure, structure_loss
from lightning_modules.lsp.teacher import AnswerTable, Teacher

NODES, EDGES = (2373, 2373), 131_000
"""A batch of two graphs as large as PPI's on average: nodes of each, directed edges of both."""

WEIGHT = 100.0
Form = Callable[[], Any]
CLOUDS, POINTS, NEIGHBOURS = 8, 1024, (20, 10)  # neighbours of the teacher's graph, and of the student's


def random_ppi(seed: int = 0) -> GraphSet:
    """Two random graphs of PPI's size, features and labels; each node has a self-loop."""
    generator = np.random.default_rng(seed)
    ends, first = [], 0
    for nodes in NODES:
        wanted = (EDGES // len(NODES) - nodes) // 2
        pairs = generator.integers(0, nodes, (2 * wanted, 2))
        pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
        ends.append(generator.permutation(pairs)[:wanted] + first)
        first += nodes
    one, other = np.concatenate(ends).T
    x = torch.from_numpy(generator.standard_normal((first, 50)).astype(np.float32))
    y = torch.from_numpy((generator.random((first, 121)) < 0.3).astype(np.float32))
    source, target = np.concatenate([one, other]), np.concatenate([other, one])
    return make_graph_set(x, np.array(NODES), source, target, y, self_loops=True)


def materialised_structure(z: Tensor, source: Tensor, target: Tensor, kernel: Kernel) -> Tensor:
    """``log LS`` of each edge from the differences of all ends, edges x channels numbers.

    The authors' code does so under ``l1exp``. Under ``rbf`` it is the same form with squared differences.

    Args:
        z: ``[n, D]``.
        source: ``[m]`` long, of each edge.
        target: ``[m]`` long, likewise.
        kernel: one of these two.
    """
    differences = z[target] - z[source]
    if kernel.name == "l1exp":
        similarity = torch.exp(-differences.abs().sum(dim=1) / kernel.sigma)
    else:
        assert kernel.name == "rbf"
        similarity = torch.exp(-differences.square().sum(dim=1) / (2 * kernel.sigma))
    largest = similarity.new_full((len(z),), -torch.inf).scatter_reduce(
        0, target, similarity.detach(), "amax"
    )
    shifted = similarity - largest[target]
    total = similarity.new_zeros(len(z)).index_add(0, target, shifted.exp())
    return shifted - total[target].log()


def networks() -> tuple[InductiveAttentionNetwork, InductiveAttentionNetwork]:
    """Teacher and student of the published sizes, with the same random weights each time."""
    torch.manual_seed(0)
    teacher = InductiveAttentionNetwork(50, 2, 4, 256, 6, 121, 0.2).eval().requires_grad_(False)
    return teacher, InductiveAttentionNetwork(50, 4, 2, 68, 2, 121, 0.2)


def asked_before(teacher: InductiveAttentionNetwork, graphs: GraphSet, kernel: Kernel) -> AnswerTable:
    """The teacher's local structure of all graphs."""
    sampler = EpochBatchSampler(len(graphs), 2, training=False, seed=0, rank=0, world=1)
    return AnswerTable(Teacher(teacher, [2], [kernel]), GraphLoader(graphs, sampler), torch.float32)


def whole_step(kernel: Kernel) -> tuple[Form, Form]:
    """Loss and gradients of the student, ours and by the authors' procedure."""
    graphs_of = random_ppi()
    batch = graphs_of.batch(torch.arange(2))
    teacher, student = networks()
    weights = list(student.parameters())
    table = asked_before(teacher, graphs_of, kernel)
    source, target = batch["edge_index"]

    def ours() -> list[Tensor]:
        graphs = Graphs.of(batch)  # made anew, as in training
        logits, found = student(graphs)
        neighbours = EdgeNeighbours(graphs.edges)
        own = log_structure(found[2].out, neighbours, kernel)
        lost = structure_loss(own, table.look_up(batch).structures[:, 0], neighbours)
        loss = task_loss("node_multi_label", logits, batch["y"]) + WEIGHT * lost
        return [loss, *torch.autograd.grad(loss, weights)]

    def theirs() -> list[Tensor]:
        graphs = Graphs.of(batch)
        logits, found = student(graphs)
        with torch.no_grad():
            teacher(graphs)  # for its logits, which are not used
            _, hidden = teacher(graphs)
            other = materialised_structure(hidden[1].out, source, target, kernel)
        own = materialised_structure(found[2].out, source, target, kernel)
        lost = (other.exp() * (other - own)).sum() / len(batch["x"])
        loss = task_loss("node_multi_label", logits, batch["y"]) + WEIGHT * lost
        return [loss, *torch.autograd.grad(loss, weights)]

    return ours, theirs


def check(forms: tuple[Form, Form]) -> None:
    """Raises AssertionError unless both give the same but for rounding."""
    for one, other in zip(*(form() for form in forms), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def step_rows(rounds: int) -> list[dict[str, Any]]:
    """The whole step both ways, under either kernel."""
    rows = []
    for kernel, whose in ((Kernel("l1exp"), "the authors' code"), (RULER, "their paper")):
        forms = whole_step(kernel)
        check(forms)
        rows.append(row(f"whole LSP step, {kernel.name} ({whose})", *forms, rounds))
    return rows


def part_rows(rounds: int) -> list[dict[str, Any]]:
    """Parts of the step under rbf."""
    graphs_of = random_ppi()
    batch = graphs_of.batch(torch.arange(2))
    teacher, student = networks()
    weights = list(student.parameters())
    table = asked_before(teacher, graphs_of, RULER)
    graphs = Graphs.of(batch)
    neighbours = EdgeNeighbours(graphs.edges)
    with torch.no_grad():
        wide = teacher(graphs)[1][1].out
    narrow = student(graphs)[1][2].out.detach().requires_grad_()
    kept = log_structure(wide, neighbours, RULER)
    source, target = batch["edge_index"]

    def computed(z: Tensor) -> Tensor:
        return log_structure(z, neighbours, RULER)

    def materialised(z: Tensor) -> Tensor:
        return materialised_structure(z, source, target, RULER)

    def differentiated(structure: Callable[[Tensor], Tensor]) -> Form:
        def job() -> Any:
            own = structure(narrow)
            return torch.autograd.grad((kept.exp() * (kept - own)).sum(), narrow)

        return job

    def student_alone() -> Any:
        return torch.autograd.grad(task_loss("node_multi_label", student(graphs)[0], batch["y"]), weights)

    of_teacher = functools.partial(torch.no_grad()(materialised), wide)
    return [
        row(
            "teacher's structure, 1,024 channels: looked up",
            lambda: table.look_up(batch),
            of_teacher,
            rounds,
        ),
        row(
            "teacher's structure, 1,024 channels: computed",
            functools.partial(torch.no_grad()(computed), wide),
            of_teacher,
            rounds,
        ),
        row(
            "student's structure, 136 channels, with gradient",
            differentiated(computed),
            differentiated(materialised),
            rounds,
        ),
        row("student alone, labels only", student_alone, student_alone, rounds),
    ]


def sorted_union(teacher: Tensor, student: Tensor, *, pairs: bool) -> Tensor:
    """The union of two graphs' edges by a sort; ``[2, m]``, or ``[m]`` of edges as single numbers.

    Args:
        teacher: ``[B, n, k_t]`` long.
        student: ``[B, n, k_s]`` long.
        pairs: sorts pairs of numbers, as graph libraries hold edges.
    """
    clouds, points, _ = teacher.shape
    centre = torch.arange(clouds * points).view(clouds, points, 1)
    first = centre // points * points
    ends = [
        torch.stack([(first + index).flatten(), centre.expand_as(index).flatten()])
        for index in (teacher, student)
    ]
    edges = torch.cat(ends, dim=1)
    return edges.unique(dim=1) if pairs else (edges[1] * clouds * points + edges[0]).unique()


def union_rows(rounds: int) -> list[dict[str, Any]]:
    """The union of two graphs of nearest neighbours, ours and by a sort."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(CLOUDS, POINTS, POINTS, generator=generator)
    teacher = drawn.topk(NEIGHBOURS[0], dim=2).indices
    half = NEIGHBOURS[1] // 2  # of the student's neighbours are the teacher's too
    mixed = torch.cat([teacher[:, :, :half], drawn.topk(half, dim=2, largest=False).indices], dim=2)
    union = CloudNeighbours.joined(teacher, mixed)
    name = f"union of k-NN graphs, {CLOUDS} x {POINTS:,} points, {NEIGHBOURS[0]} + {NEIGHBOURS[1]}"
    rows = []
    for pairs, what in ((True, "pairs sorted"), (False, "single numbers sorted")):
        by_sort = functools.partial(sorted_union, teacher, mixed, pairs=pairs)
        assert int(union.valid.sum()) == by_sort().size(-1)
        rows.append(row(f"{name}: {what}", lambda: CloudNeighbours.joined(teacher, mixed), by_sort, rounds))
    return rows


def row(what: str, ours: Form, theirs: Form, rounds: int) -> dict[str, Any]:
    """One line of the table, of ``rounds`` pairs in which either form is the first by turns."""
    ours()
    theirs()
    pairs = []
    for number in range(rounds):
        if number % 2:
            other, own = _milliseconds(theirs), _milliseconds(ours)
        else:
            own, other = _milliseconds(ours), _milliseconds(theirs)
        pairs.append((own, other))
    low, middle, high = statistics.quantiles([other / own for own, other in pairs], n=4)
    return {
        "what": what,
        "ours ms": statistics.median(own for own, _ in pairs),
        "authors' form ms": statistics.median(other for _, other in pairs),
        "ratio": middle,
        "25 %": low,
        "75 %": high,
    }


def _milliseconds(job: Form) -> float:
    started = time.process_time()
    job()
    return 1000 * (time.process_time() - started)


def main() -> None:
    """Measures, prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of turns, 2 or more (default 9)")
    arguments = parser.parse_args()
    quieten_libraries(Path(tempfile.mkdtemp()))
    torch.set_num_threads(1)
    steps, unions = step_rows(arguments.rounds), union_rows(arguments.rounds)
    tables = [
        Table(
            f"LSP on a batch of PPI's size ({sum(NODES):,} nodes, about {EDGES:,} directed edges), forward"
            f" and backward, medians of {arguments.rounds} rounds",
            steps + part_rows(arguments.rounds),
            asked("4 times of a whole step", min(one["ratio"] for one in steps) >= 4),
        ),
        Table(
            f"LSP's union of two dynamic graphs, medians of {arguments.rounds} rounds",
            unions,
            asked(
                "20 times, the union being the specification's `unique` of pairs", unions[0]["ratio"] >= 20
            ),
        ),
    ]
    write_report("lsp", tables, arguments.output)


if __name__ == "__main__":
    main()
