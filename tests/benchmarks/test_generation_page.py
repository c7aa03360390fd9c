"""The part of RESULTS.md about generated images."""

from typing import Any

from benchmarks.generation_page import generation_notes, generation_table
from benchmarks.reproduce import Experiment

WGAN = Experiment("bumps16_wgan", "one_stage, wgan", "osgan", "bumps16", ("model.loss=wgan",), 3)
MNIST = [
    Experiment(f"mnist_{scheme}", f"{scheme}, non_saturating", "osgan", "mnist", (f"model.scheme={scheme}",))
    for scheme in ("one_stage", "simultaneous")
]


def row(key: str, seed: int, **metrics: float) -> dict[str, Any]:
    found = {f"test/{name}": value for name, value in metrics.items()}
    return {"experiment": key, "seed": seed, "metrics": found, "seconds": {"fit": 10.0}}


def bumps(*pairs: tuple[float, float]) -> list[dict[str, Any]]:
    return [row(WGAN.key, s, fd_bumps=fd, modes=modes) for s, (fd, modes) in enumerate(pairs)]


def test_accepted_are_the_seeds_with_a_small_distance_and_nearly_all_modes() -> None:
    rows = bumps((3.4, 7), (3.5, 8), (1.0, 6))
    table = generation_table([WGAN, *MNIST], [*rows, row(MNIST[0].key, 0, fd_classifier=4.25)])
    head, _, of_bumps, of_mnist = (line.split(" | ") for line in table.splitlines())
    place = head.index("accepted")
    assert of_bumps[place] == "1 of 3"
    assert of_mnist[place] == "–"


def test_what_misses_the_acceptance_is_named() -> None:
    notes = " ".join(generation_notes([WGAN], bumps((3.4, 7), (9.0, 8))).split())
    assert "below 3.5 with at least 7 of the 8 modes" in notes
    assert "Not on every seed: one_stage, wgan (1 of 2)." in notes
    assert "Not on every seed" not in generation_notes([WGAN], bumps((3.4, 7)))


def test_two_ways_to_the_same_update_tell_how_much_chance_there_is() -> None:
    rows = [row(e.key, 0, fd_classifier=d) for e, d in zip(MNIST, (4.25, 4.48), strict=True)]
    notes = " ".join(generation_notes(MNIST, rows).split())
    assert "`simultaneous` is mathematically the same update as `one_stage`" in notes
    assert "4.48 against 4.25" in notes
    assert "smaller than 0.23 tell nothing" in notes
    assert "mathematically" not in generation_notes(MNIST, rows[:1])


def test_the_order_of_schemes_in_seconds_is_no_measurement() -> None:
    notes = " ".join(generation_notes([], []).split())
    assert "shared machine" in notes
    assert "not to be read as a measurement" in notes
    assert "shared out evenly over its steps" in notes
