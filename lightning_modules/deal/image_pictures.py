"""Scenes with their difficulty maps: test images beside what went wrong, and images that wait for a label."""

import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datamodules.paired_augmentation import VOID
from datamodules.scenes import normaliser
from harness.figures import in_house_style, new_figure
from lightning_modules.segmentation.pictures import RIGHT, UNKNOWN, WRONG
from lightning_modules.segmentation.scenes import names_of, palette_of, shown_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from datamodules.segmentation import SegmentationDataModule
    from lightning_modules.deal.module import Deal

NEXT_SHOWN = 12
NAME_LENGTH = 21
"""Letters of a file's name that fit above its image."""


@torch.no_grad()
def _looked_at(module: "Deal", x: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    """Classes ``[B, H, W]`` and, with the branch, difficulty ``[B, H, W]``."""
    module.eval()
    parameter = next(module.parameters())
    logits, difficulty = module.with_difficulty(x.to(parameter.device, parameter.dtype))
    maps = None if difficulty is None else difficulty.float().sigmoid()[:, 0].cpu().numpy()
    return logits.argmax(dim=1).cpu().numpy(), maps


def draw_difficulties(module: "Deal", data: "SegmentationDataModule") -> "Figure":
    """A few test images, evenly spaced: image, truth, prediction, error and difficulty.

    Args:
        module: trained, with the difficulty branch.
        data: its data.
    """
    batch = shown_rows(data)
    x, y = batch["x"], batch["y"].numpy()
    predicted, difficulty = _looked_at(module, x)
    assert difficulty is not None
    names, palette = names_of(data, module.num_classes), palette_of(data, module.num_classes).numpy()
    images = data.denormalise(x).permute(0, 2, 3, 1).numpy()
    return _draw_panels(batch["id"].tolist(), images, y, predicted, difficulty, names, palette)


@in_house_style
def _draw_panels(
    ids: list[int],
    images: np.ndarray,
    y: np.ndarray,
    predicted: np.ndarray,
    difficulty: np.ndarray,
    names: tuple[str, ...],
    palette: np.ndarray,
) -> "Figure":
    from matplotlib.patches import Patch

    height, width = y.shape[1:]
    panel = 1.5 * height / width
    legend_rows = -(-(len(names) + 2) // 6)
    figure, panels = new_figure(
        "Where the network errs, and where it expects to",
        rows=len(ids),
        columns=5,
        height=0.9 + len(ids) * (panel + 0.3) + 0.25 * legend_rows,
    )
    shades = _shades(difficulty)
    for row, number in enumerate(ids):
        wrong = (predicted[row] != y[row])[..., None]
        error = np.where((y[row] == VOID)[..., None], UNKNOWN, np.where(wrong, WRONG, RIGHT))
        counted = y[row] != VOID
        share = float(wrong[..., 0][counted].mean()) if counted.any() else 0.0
        columns: list[tuple[str, Any]] = [
            (f"Image no. {number}", images[row]),
            ("Annotated", palette[y[row]]),
            ("Predicted", palette[predicted[row]]),
            (f"Wrong: {100 * share:.1f} %", error),
        ]
        for place, (title, image) in enumerate(columns):
            always = place in (0, 3)
            _show(panels[5 * row + place], image, title if row == 0 or always else "")
        axes = panels[5 * row + 4]
        drawn = _show(
            axes,
            difficulty[row],
            f"Difficulty: {difficulty[row].mean():.3f}",
            **shades,
        )
    figure.colorbar(drawn, ax=panels[4::5], label="Difficulty", fraction=0.12, pad=0.03, aspect=30)
    handles = [Patch(color=tuple(palette[index]), label=name) for index, name in enumerate(names)]
    handles += [Patch(color=UNKNOWN, label="void"), Patch(color=WRONG, label="wrong")]
    figure.legend(handles=handles, loc="outside lower left", ncols=6, fontsize=8.5, handlelength=1.0)
    return figure


def draw_next_images(module: "Deal", data: "SegmentationDataModule", number: int) -> "Figure":
    """The images that a round has chosen, best first, each with its score and its difficulty map.

    Args:
        module: trained, with the round's choice.
        data: the pool that it chose from.
        number: the round.
    """
    queries = module.rounds.queries[number][:NEXT_SHOWN]
    ids, scores = module.rounds.candidates[number].tolist(), module.rounds.scores[number].tolist()
    score = dict(zip(ids, scores, strict=True))
    # of its own: the first process draws alone, and the loaders of the pool share a batch out
    pixels = data.splits["train"].images[torch.tensor(queries)].float() / 255
    x = normaliser(data.mean, data.std)(pixels)
    _, difficulty = _looked_at(module, x)
    images = pixels.permute(0, 2, 3, 1).numpy()
    pool = data.splits["train"].names
    names = short_names([pool[one] for one in queries], pool)
    return _draw_grid(images, difficulty, names, [score[one] for one in queries], number)


@in_house_style
def _draw_grid(
    images: np.ndarray,
    difficulty: np.ndarray | None,
    names: list[str],
    scores: list[float],
    number: int,
) -> "Figure":
    """A row of images and below each its map; four in a row."""
    columns = min(4, len(images))
    maps = 1 if difficulty is None else 2
    blocks = -(-len(images) // columns)
    height, width = images.shape[1:3]
    panel = 1.8 * height / width
    figure, panels = new_figure(
        f"To annotate next, after round {number}",
        rows=blocks * maps,
        columns=columns,
        width=8.0 if columns > 2 else 5.0,
        height=0.7 + blocks * (maps * (panel + 0.08) + 0.42),
    )
    for axes in panels:
        axes.set_axis_off()
    drawn = None
    for place in range(len(images)):
        block, column = divmod(place, columns)
        first = block * maps * columns + column
        _show(panels[first], images[place], f"{place + 1}. {names[place]}\nscore {scores[place]:.4f}")
        if difficulty is not None:
            drawn = _show(panels[first + columns], difficulty[place], "", **_shades(difficulty))
    if drawn is not None:
        figure.colorbar(drawn, ax=panels, label="Difficulty", fraction=0.03, pad=0.02, aspect=40)
    return figure


def short_names(names: Sequence[str], pool: Sequence[str]) -> list[str]:
    """Names without the folder that the whole pool has in common, cut in the middle where they are long.

    Args:
        names: some of the pool's.
        pool: all names, one or more; of files by their paths, with slashes.
    """
    folder = os.path.commonpath([PurePosixPath(name).parent for name in pool])
    own = [str(PurePosixPath(name).relative_to(folder)) for name in names]
    tail = 2 * NAME_LENGTH // 3  # where files of a folder differ
    head = NAME_LENGTH - tail - 1
    return [name if len(name) <= NAME_LENGTH else f"{name[:head]}…{name[-tail:]}" for name in own]


def _shades(difficulty: np.ndarray) -> dict[str, Any]:
    """Colours over the range of all maps that are shown: by ``wce`` they may be far from 0."""
    low, high = float(difficulty.min()), float(difficulty.max())
    return {"cmap": "magma", "vmin": low, "vmax": max(high, low + 1e-3)}


def _show(axes: "Axes", image: np.ndarray, title: str, **how: Any) -> Any:
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=8, pad=3)
    return axes.imshow(image, interpolation="nearest", **how)
