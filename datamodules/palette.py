"""Colours for classes of which nothing is known but their number."""

Colour = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""


def distinct_colours(num_classes: int) -> tuple[Colour, ...]:
    """Colours far apart for any number of classes: the bits of its number, spread over the three channels.

    The colours of PASCAL VOC without its black, which is left for void.

    Args:
        num_classes: classes C; all colours differ for C below 2^24.
    """
    colours = []
    for number in range(1, num_classes + 1):
        channels = [0, 0, 0]
        for place in range(8):
            for channel in range(3):
                channels[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)
