"""Images with masks as they are held and looked up, and what a network sees of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class Masks:
    """The masks of a split, which nothing reads but by the numbers of the images it wants.

    Args:
        values: ``[N, H, W]`` uint8, the class of each pixel or 255; may be mapped from a file.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, ids: Tensor) -> Tensor:
        """Those of some images, ``[b]`` long where the masks lie: ``[b, H, W]`` uint8."""
        return self._values[ids]

    @property
    def device(self) -> torch.device:
        return self._values.device

    @property
    def nbytes(self) -> int:
        return self._values.nbytes

    def to(self, device: torch.device) -> "Masks":
        """The same on a device."""
        return Masks(self._values.to(device))


@dataclass(frozen=True)
class Scenes:
    """One split.

    Attributes:
        images: ``[N, 3, H, W]`` uint8; may be mapped from a file.
        masks: of the N images.
        has_mask: ``[N]`` bool, False for an image that nobody has annotated yet, whose mask is void.
        names: what tells a person which image is meant, N words.
    """

    images: Tensor
    masks: Masks
    has_mask: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


class Rows:
    """Some rows of images or masks, which a loader of arrays indexes as it does a tensor.

    Args:
        whole: ``[N, ...]``.
        ids: ``[n]`` long, the rows.
    """

    def __init__(self, whole: Tensor | Masks, ids: Tensor) -> None:
        self.whole = whole
        self.ids = ids.to(whole.device)

    @property
    def device(self) -> torch.device:
        return self.whole.device

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.whole[self.ids[rows]]


def normaliser(mean: Sequence[float], std: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """What a network sees of pixels in [0, 1], ``[B, 3, H, W]``, as a function that knows nothing else.

    Args:
        mean: subtracted from each colour.
        std: what each colour is divided by then.
    """
    columns: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def normalise(pixels: Tensor) -> Tensor:
        if pixels.device not in columns:
            # a tensor made in inference mode could never take part in a backward pass
            with torch.inference_mode(False):
                columns[pixels.device] = column(mean, pixels), column(std, pixels)
        middle, spread = columns[pixels.device]
        return (pixels - middle) / spread

    return normalise


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers, one per colour, as ``[3, 1, 1]`` of the type and on the device of ``like``."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
