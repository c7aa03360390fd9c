"""Time and measure DEAL's scoring, core-set selection and attention against its authors' forms.

    python -m benchmarks.deal
    python -m benchmarks.deal --device cuda

Sizes are CamVid's, 360 x 480 pixels and 11 classes, its attention has N = 60 x 80 points. Each pair must
first give the same numbers. Times are wall-clock seconds of one thread (of a GPU with all its work done),
medians over rounds in which both forms take turns; a ratio is the median of the rounds' ratios.

- Scoring: ours reduces the difficulty map where it lies and sends one number an image; the authors' resizes
  all classes to the image, copies the probabilities and the map to the host and makes a histogram of each
  there. Once from the output of the network on; with the network, whose attention the authors' form makes
  with the matrix of weights; and with ours in bfloat16.
- Core-set: a running minimum of distances, against all distances anew for every pick.
- Attention: fused, against the matrix of N x N weights; forward and backward.
- Training: a step of the whole network with the fused attention and ReLU6 that keep one map; with the fused
  attention alone; and as the authors train.

Memory is what the peak during the job lies above what was there before it: of a GPU as torch counts it, of
the CPU as the kernel counts the process (Linux alone).
"""

import argparse
import ctypes
import functools
import gc
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.report import Table, add_arguments, asked, write_report
from lightning_modules.deal import difficulty
from lightning_modules.deal.acquisition import deal_de
from lightning_modules.deal.coreset import k_centre_greedy
from lightning_modules.deal.difficulty import DifficultyBranch, class_attention
from lightning_modules.deal.losses import difficulty_loss, error_mask
from lightning_modules.segmentation.build import build_segmenter
from lightning_modules.segmentation.lean_relu6 import LeanReLU6
from lightning_modules.segmentation.metrics import pixel_loss
from lightning_modules.segmentation.networks import Segmenter, resize

SIZE, CLASSES, STRIDE, LEVELS = (360, 480), 11, 6, 8
CANDIDATES, LABELLED, PICKS, WIDTH = 3000, 300, 150, 304  # Cityscapes' first round, 304 features
MEBI = 1 << 20

Job = Callable[[], Any]


def explicit_attention(p: Tensor, gamma: Tensor) -> Tensor:
    """As :func:`class_attention` with the matrix of all weights, ``[B, N, N]``: the authors' form."""
    weights = torch.bmm(p, p.transpose(1, 2)).softmax(dim=-1)
    return p + gamma * torch.bmm(weights, p)


def shipped_scores(scores: Tensor, difficulty_logits: Tensor) -> np.ndarray:
    """Difficulty entropies of what the authors' evaluation copies to the host."""
    probabilities = resize(scores, SIZE).softmax(dim=1).cpu().numpy()
    assert probabilities.shape[1] == CLASSES, "they are not used further by the authors either"
    maps = difficulty_logits.sigmoid().cpu().numpy()
    found = []
    for one in maps:
        counts, _ = np.histogram(one, bins=LEVELS, range=(one.min(), one.max()))
        shares = counts[counts > 0] / one.size
        found.append(-(shares * np.log(shares)).sum())
    return np.array(found)


def reduced_scores(difficulty_logits: Tensor) -> np.ndarray:
    """The same, reduced on the device."""
    return deal_de(difficulty_logits.sigmoid(), LEVELS).cpu().numpy()


def recomputed_picks(features: Tensor, labelled: Tensor, number: int) -> list[int]:
    """k-centre greedy that computes all distances anew for every pick, as the authors do."""
    picks: list[int] = []
    for _ in range(number):
        centres = torch.cat([labelled, features[picks]])
        distances = 1 - F.normalize(features, dim=1) @ F.normalize(centres, dim=1).T
        nearest = distances.amin(dim=1)
        nearest[picks] = -1.0
        picks.append(int(nearest.argmax()))
    return picks


def seconds(job: Job, device: torch.device) -> float:
    """Wall-clock seconds of ``job``, a GPU's work included."""
    _finish(device)
    started = time.perf_counter()
    job()
    _finish(device)
    return time.perf_counter() - started


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def paired(ours: Job, theirs: Job, rounds: int, device: torch.device) -> tuple[float, float, float]:
    """Median seconds of ours and of theirs, and the median ratio; they take turns, the first one by turns."""
    ours(), theirs()  # fills the caches
    samples = []
    for number in range(rounds):
        jobs = [("ours", ours), ("theirs", theirs)][:: -1 if number % 2 else 1]
        samples.append({name: seconds(job, device) for name, job in jobs})
    return (
        statistics.median(one["ours"] for one in samples),
        statistics.median(one["theirs"] for one in samples),
        statistics.median(one["theirs"] / one["ours"] for one in samples),
    )


def peak_mebibytes(job: Job, device: torch.device) -> float:
    """How far memory in use rises during ``job`` above what was in use before; NaN where nobody counts."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        job()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MEBI
    try:
        # what was freed but is kept for later would hide what the job takes
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts from now
        before = _of_process("VmRSS")
        job()
        return (_of_process("VmHWM") - before) / MEBI
    # other systems have neither the file nor that function
    except (OSError, AttributeError):
        return math.nan


def _of_process(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def network_and_branch(device: torch.device) -> tuple[Segmenter, DifficultyBranch]:
    """DeepLabv3+ and its difficulty branch, drawn from seed 0 as :class:`Deal` draws them."""
    torch.manual_seed(0)
    network = build_segmenter("deeplab_mobilenet", CLASSES)
    with torch.random.fork_rng(devices=[]):
        branch = DifficultyBranch(CLASSES, STRIDE)
    return network.to(device), branch.to(device)


def scoring_table(device: torch.device, batch: int, rounds: int) -> Table:
    """Images a second, from the network's output on and with the network."""
    network, branch = network_and_branch(device)
    network.eval()
    branch.eval()
    x = torch.randn(batch, 3, *SIZE, device=device)

    def outputs(x: Tensor = x) -> tuple[Tensor, Tensor]:
        scores, features = network(x)
        return scores, branch(scores, features, SIZE)

    def ours() -> np.ndarray:
        return reduced_scores(outputs()[1])

    def ours_in_bfloat16() -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16):
            return reduced_scores(outputs(x.contiguous(memory_format=torch.channels_last))[1].float())

    def theirs() -> np.ndarray:
        with mock.patch.object(difficulty, "class_attention", explicit_attention):
            return shipped_scores(*outputs())

    with torch.inference_mode():
        scores, logits = outputs()
        np.testing.assert_allclose(reduced_scores(logits), shipped_scores(scores, logits), atol=1e-3)
        few = min(rounds, 5)
        rows = [
            _scoring_row(
                "reduction alone",
                batch,
                paired(
                    lambda: reduced_scores(logits), lambda: shipped_scores(scores, logits), rounds, device
                ),
            ),
            _scoring_row("network and reduction", batch, paired(ours, theirs, few, device)),
            # what hardware.precision=bf16-mixed does; the authors' has no such switch
            _scoring_row("the same, ours in bfloat16", batch, paired(ours_in_bfloat16, theirs, few, device)),
        ]
    note = asked("5 times the images a second, with the network", max(row["ratio"] for row in rows[1:]) >= 5)
    return Table(f"Scoring with DE, {batch} images of CamVid's size, {_where(device)}", rows, note)


def _scoring_row(name: str, batch: int, found: tuple[float, float, float]) -> dict[str, Any]:
    mine, other, ratio = found
    return {
        "scoring": name,
        "ours images/s": batch / mine,
        "authors' images/s": batch / other,
        "ratio": ratio,
        "ours sends bytes": 4 * batch,
        "authors' send bytes": 4 * batch * (CLASSES + 1) * math.prod(SIZE),
    }


def coreset_table(device: torch.device, rounds: int) -> Table:
    """Seconds of a whole selection."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(CANDIDATES, WIDTH, generator=generator).to(device)
    labelled = torch.rand(LABELLED, WIDTH, generator=generator).to(device)
    exact = (features.double(), labelled.double(), PICKS)
    assert k_centre_greedy(*exact).tolist() == recomputed_picks(*exact)
    mine, other, ratio = paired(
        lambda: k_centre_greedy(features, labelled, PICKS),
        lambda: recomputed_picks(features, labelled, PICKS),
        min(rounds, 5),
        device,
    )
    row = {
        "candidates": CANDIDATES,
        "labelled": LABELLED,
        "picks": PICKS,
        "ours s": mine,
        "all distances anew s": other,
        "ratio": ratio,
    }
    return Table(
        f"Core-set selection, {WIDTH} features, {_where(device)}", [row], asked("20 times", ratio >= 20)
    )


def attention_table(device: torch.device, rounds: int) -> Table:
    """Memory and seconds of the attention of one image, forward and backward."""
    points = (SIZE[0] // STRIDE) * (SIZE[1] // STRIDE)
    torch.manual_seed(0)
    p = (3 * torch.randn(1, points, CLASSES, device=device)).softmax(dim=-1).requires_grad_()
    gamma = torch.full((1,), 0.5, device=device, requires_grad=True)
    grad = torch.linspace(-1, 1, p.numel(), device=device).view_as(p)

    def job(form: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        out = form(p, gamma)
        return out.detach(), *torch.autograd.grad(out, (p, gamma), grad)

    pair = job(class_attention), job(explicit_attention)
    # gamma's gradient is a sum of 50,000 numbers of both signs
    for one, exact, atol in zip(*pair, (1e-5, 1e-5, 1e-3), strict=True):
        torch.testing.assert_close(one, exact, rtol=1e-4, atol=atol)
    mine, other, ratio = paired(lambda: job(class_attention), lambda: job(explicit_attention), rounds, device)
    memory = [
        statistics.median(peak_mebibytes(lambda form=form: job(form), device) for _ in range(3))  # type: ignore[misc]
        for form in (class_attention, explicit_attention)
    ]
    row = {
        "N": points,
        "ours MiB": memory[0],
        "N x N MiB": memory[1],
        "ours ms": 1e3 * mine,
        "N x N ms": 1e3 * other,
        "ratio of time": ratio,
    }
    return Table(f"Attention of one image, forward and backward, {_where(device)}", [row])


def training_table(device: torch.device, batch: int) -> Table:
    """Peak memory of one training step of DeepLabv3+ with its difficulty branch."""
    rows: list[dict[str, Any]] = []
    for name, form, lean in (
        ("ours: fused, ReLU6 keeps one map", class_attention, True),
        ("fused, torch's ReLU6", class_attention, False),
        ("authors': N x N, torch's ReLU6", explicit_attention, False),
    ):
        network, branch = network_and_branch(device)
        if not lean:
            plain_activations(network)
        x = torch.randn(batch, 3, *SIZE, device=device)
        y = torch.randint(CLASSES, (batch, *SIZE), device=device)
        losses: list[float] = []
        job = functools.partial(training_step, network.train(), branch.train(), x, y, losses)
        with mock.patch.object(difficulty, "class_attention", form):
            memory = peak_mebibytes(job, device)
        rows.append({"training": name, "peak MiB": memory, "loss of the step": losses[0]})
    for row in rows:
        row["share of the authors'"] = row["peak MiB"] / rows[-1]["peak MiB"]
    note = asked("half of the authors' peak at most", rows[0]["share of the authors'"] <= 0.5)
    return Table(f"A training step, batch {batch} of CamVid's size, {_where(device)}", rows, note)


def plain_activations(network: nn.Module) -> None:
    """Puts torch's ReLU6 back, whose backward pass keeps a clone of its input."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, LeanReLU6):
                setattr(module, name, nn.ReLU6(inplace=True))


def training_step(
    network: Segmenter, branch: DifficultyBranch, x: Tensor, y: Tensor, losses: list[float]
) -> None:
    """Forward and backward, as :class:`Deal` trains; the loss goes to ``losses``."""
    scores, features = network(x)
    logits, found = resize(scores, SIZE), branch(scores, features, SIZE)
    loss = pixel_loss(logits, y) + difficulty_loss(found, error_mask(logits, y), y)
    loss.backward()
    losses.append(float(loss.detach()))


def _where(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"


def main() -> None:
    """Check, measure, print, write ``deal.json`` (``deal_cuda.json`` of a GPU)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each form (default 9)")
    parser.add_argument("--batch", type=int, default=8, help="images scored at once (default 8)")
    parser.add_argument("--train-batch", type=int, default=4, help="images of a training step (default 4)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    tables = [
        scoring_table(device, arguments.batch, arguments.rounds),
        coreset_table(device, arguments.rounds),
        attention_table(device, arguments.rounds),
        training_table(device, arguments.train_batch),
    ]
    write_report("deal" if device.type == "cpu" else "deal_cuda", tables, arguments.output)


if __name__ == "__main__":
    main()
