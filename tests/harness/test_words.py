from harness.words import counted


def test_one_is_no_plural() -> None:
    assert [counted(number, "epoch") for number in (0, 1, 2, 1000)] == [
        "0 epochs",
        "1 epoch",
        "2 epochs",
        "1,000 epochs",
    ]
