import subprocess
import sys

import pytest

from harness.figures import (
    PALETTE,
    class_colour,
    class_label,
    class_marker,
    in_house_style,
    new_figure,
    save_png,
    text_colour_on,
)


@in_house_style
def small_figure():
    figure, (axes,) = new_figure("A title")
    axes.plot([0, 1], [0, 1])
    return figure


def test_png_is_written_whole_into_a_new_folder(tmp_path):
    path = save_png(small_figure(), tmp_path / "figures" / "line.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in path.parent.iterdir()] == ["line.png"]


def test_equal_figures_are_equal_files(tmp_path):
    first = save_png(small_figure(), tmp_path / "first.png").read_bytes()
    assert save_png(small_figure(), tmp_path / "second.png").read_bytes() == first


def test_failed_drawing_leaves_the_old_picture_and_nothing_else(tmp_path):
    path = tmp_path / "line.png"
    path.write_bytes(b"old")

    class Broken:
        def savefig(self, target, **_):
            target.write_bytes(b"half")
            raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        save_png(Broken(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_house_style_does_not_leak():
    import matplotlib

    before = dict(matplotlib.rcParams)
    small_figure()
    assert dict(matplotlib.rcParams) == before


def test_long_title_wraps_inside_the_figure():
    @in_house_style
    def draw():
        return new_figure("a rather long title that says what was found " * 3)[0]

    figure = draw()
    figure.draw_without_rendering()
    title = figure.get_suptitle()
    assert "\n" in title
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1


def test_more_classes_than_colours_differ_by_marker():
    count = 2 * len(PALETTE)
    assert len({(class_colour(index), class_marker(index)) for index in range(count)}) == count


def test_class_without_a_name_is_numbered():
    assert class_label(["Rule_Learning"], 0) == "Rule Learning"
    assert class_label(["Rule_Learning"], 3) == "class 3"


def test_text_is_light_on_dark_and_dark_on_light():
    assert text_colour_on("#000000") == "white"
    assert text_colour_on("#ffffff") != "white"


def test_importing_the_pictures_loads_no_matplotlib():
    code = "import harness.curves, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
