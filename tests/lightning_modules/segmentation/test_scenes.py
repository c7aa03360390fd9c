"""Names and colours of classes."""

import pytest
import torch

from lightning_modules.segmentation.scenes import names_of, paint, palette_of, shown_rows, visible
from tests.lightning_modules.segmentation.tiny_scenes import NAMES, PALETTE, TinyScenes


def test_a_data_module_s_own_names_and_colours_are_taken() -> None:
    data = TinyScenes()
    assert names_of(data, 4) == NAMES
    palette = palette_of(data, 4)
    assert palette.shape == (256, 3)
    torch.testing.assert_close(palette[:4], torch.tensor(PALETTE) / 255)
    assert not palette[255].any()


def test_a_data_module_without_names_and_colours_gets_some() -> None:
    assert names_of(object(), 2) == ("class 0", "class 1")
    assert (255 * palette_of(object(), 2)[1]).tolist() == [0.0, 128.0, 0.0]


def test_every_pixel_gets_the_colour_of_its_class() -> None:
    labels = torch.tensor([[[0, 2], [255, 1]]])
    image = paint(labels, palette_of(TinyScenes(), 4))
    assert image.shape == (1, 3, 2, 2)
    assert (image[0, :, 0, 1] * 255).round().tolist() == list(PALETTE[2])
    assert image[0, :, 1, 0].tolist() == [0.0, 0.0, 0.0]


def test_images_are_shown_as_they_were_or_stretched() -> None:
    x = torch.tensor([-1.0, 1.0, 3.0]).view(1, 3, 1, 1)
    assert visible(x, TinyScenes()).flatten().tolist() == [0.0, 1.0, 1.0]
    assert visible(x, object()).flatten().tolist() == [0.0, 0.5, 1.0]
    assert not visible(torch.ones(1, 3, 2, 2), object()).any()


def test_the_images_shown_are_spread_over_the_test_and_no_other_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = TinyScenes(batch_size=3)
    read: list[int] = []

    class Watched(list[dict[str, torch.Tensor]]):
        def __getitem__(self, place: int) -> dict[str, torch.Tensor]:  # type: ignore[override]
            read.append(place)
            return super().__getitem__(place)

    monkeypatch.setitem(data.splits, "test", Watched(data.splits["test"]))
    batch = shown_rows(data)
    assert batch["id"].tolist() == [13, 14, 16, 18]
    assert read == [0, 1, 3, 5]
    assert torch.equal(batch["x"][2], data.splits["test"][3]["x"])
    data.splits["test"] = data.splits["test"][:2]
    assert shown_rows(data)["id"].tolist() == [13, 14]
