"""Images with masks as they are held and looked up, and what a network sees of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.paired_augmentation import VOID


class Masks:
    """The masks of a split, which nothing reads but by the numbers of the images it wants.

    Args:
        values: ``[M, H, W]`` uint8, the class of each pixel or 255; may be mapped from a file.
        of_image: ``[N]`` long, the mask of each image, -1 for an image without one, which is void everywhere;
            None where N = M and all have one, in order.
    """

    def __init__(self, values: Tensor, of_image: Tensor | None = None) -> None:
        self._values = values
        self._of_image = None if of_image is None else of_image.to(values.device)

    def __len__(self) -> int:
        return len(self._values if self._of_image is None else self._of_image)

    def __getitem__(self, ids: Tensor) -> Tensor:
        """Those of some images, ``[b]`` long where the masks lie: ``[b, H, W]`` uint8."""
        if self._of_image is None:
            return self._values[ids]
        places = self._of_image[ids]
        if not len(self._values):
            return self._values.new_full((len(places), *self._values.shape[1:]), VOID)
        # by a fill, since choosing those without a mask would make a GPU wait
        return self._values[places.clamp(min=0)].masked_fill_((places < 0)[:, None, None], VOID)

    @property
    def device(self) -> torch.device:
        return self._values.device

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), *self._values.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Of the masks that there are."""
        if self._of_image is None:
            return self._values.nbytes
        return int((self._of_image >= 0).sum()) * self._values.shape[1:].numel()

    def take(self, ids: Tensor) -> "Masks":
        """Those of some images, ``[n]`` long on the CPU, as masks of n images; none is read or copied."""
        of_image = torch.arange(len(self._values)) if self._of_image is None else self._of_image
        return Masks(self._values, of_image[ids.to(of_image.device)])

    def to(self, device: torch.device) -> "Masks":
        """The same on a device, which gets the masks of these images alone."""
        if self._of_image is None:
            return Masks(self._values.to(device))
        masked = self._of_image >= 0
        places = torch.full_like(self._of_image, -1)
        places[masked] = torch.arange(int(masked.sum()), device=places.device)
        return Masks(self._values[self._of_image[masked]].to(device), places)


@dataclass(frozen=True)
class Scenes:
    """One split.

    Attributes:
        images: ``[N, 3, H, W]`` uint8; may be mapped from a file, or some rows of what is.
        masks: of the N images.
        has_mask: ``[N]`` bool, False for an image that nobody has annotated yet, whose mask is void.
        names: what tells a person which image is meant, N words.
    """

    images: "Tensor | Rows"
    masks: Masks
    has_mask: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, ids: Tensor) -> "Scenes":
        """Those of some numbers, ``[n]`` long on the CPU; no pixel is read or copied."""
        return Scenes(
            Rows(self.images, ids),
            self.masks.take(ids),
            self.has_mask[ids],
            tuple(self.names[number] for number in ids.tolist()),
        )


class Rows:
    """Some rows of images or masks, which a loader of arrays indexes as it does a tensor.

    Args:
        whole: ``[N, ...]``.
        ids: ``[n]`` long, the rows.
    """

    def __init__(self, whole: "Tensor | Masks | Rows", ids: Tensor) -> None:
        self.whole = whole
        self.ids = ids.to(whole.device)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.whole[self.ids[rows]]

    @property
    def device(self) -> torch.device:
        return self.whole.device

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.ids), *self.whole.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Of these rows, each an element of one byte."""
        return self.shape.numel()

    def to(self, device: torch.device) -> Tensor:
        """These rows, copied, on a device."""
        return self.whole[self.ids].to(device)


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
