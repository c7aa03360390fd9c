"""What a reader finds written in a picture."""

from matplotlib.figure import Figure


def text_of(figure: Figure) -> str:
    """All visible text, drawn once so that a layout that fails shows."""
    figure.draw_without_rendering()
    pieces = [figure.get_suptitle()]
    for axes in figure.axes:
        pieces += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")]
        pieces += [text.get_text() for text in axes.texts]
        pieces += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    pieces += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join(pieces)
