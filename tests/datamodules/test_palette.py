"""Colours of classes that have none of their own."""

from datamodules.palette import distinct_colours


def test_colours_are_the_bits_of_the_class_s_number_and_differ() -> None:
    assert distinct_colours(4) == ((128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert distinct_colours(8)[7] == (64, 0, 0), "number 8: the fourth bit is red's second"
    colours = distinct_colours(254)
    assert len({*colours, (0, 0, 0)}) == 255
    assert max(max(colour) for colour in colours) <= 255
