"""The student in closed form: exact where nothing is lost, and computed without a step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.checkpoints import read_checkpoint
from harness.errors import UserError
from lightning_modules.netgraft import fskd
from lightning_modules.netgraft.fskd import FewShotFSKD
from tests.lightning_modules.netgraft.few_shot_runs import FACTS, FEW, fitted, images, plain_cnn, teacher, vgg
from tests.small_runs import assert_same_weights


def student(network: Any, grafted: list[int] | None = None) -> FewShotFSKD:
    torch.manual_seed(0)
    return FewShotFSKD(**FACTS, **FEW, student=network, grafted=grafted, views=0)


def aligned(
    network: Any, source: Any, grafted: list[int] | None = None
) -> tuple[FewShotFSKD, dict[int, float]]:
    module = student(network, grafted).double()
    module.on_prerequisites({"teacher": source})
    module.eval()
    return module, module.align([images(20, 1, torch.float64), images(20, 2, torch.float64)])


@pytest.mark.parametrize("grafted", [None, [1, 2], [0]])
@pytest.mark.parametrize(
    "network",
    [plain_cnn(4), plain_cnn(4, "none"), vgg(4, 6), vgg(4, 6, head_norm=True)],
    ids=["cnn", "cnn without norm", "vgg", "vgg with norm"],
)
def test_a_student_as_wide_as_the_teacher_becomes_the_teacher(
    network: Any, grafted: list[int] | None
) -> None:
    source = teacher(network).double()
    module, left = aligned(network, source, grafted)
    x = images(7, 3, torch.float64)
    torch.testing.assert_close(module(x), source(x), rtol=1e-6, atol=1e-6)
    assert left.keys() == {block for block in (grafted or [0, 1, 2]) if block < 2}
    assert all(share < 1e-12 for share in left.values())


def test_channels_that_follow_from_others_are_made_up_for_exactly() -> None:
    source = teacher(vgg(8, 8)).double()
    for block in source.network.features:
        inner, outer = block[0], block[2]
        for value in (inner.weight, inner.bias):
            value[4:] = 0.0  # silent within the block
        outer.weight[4:], outer.bias[4:] = 0.5 * outer.weight[:4], 0.5 * outer.bias[:4]
    module, left = aligned(vgg(4, 4), source)
    x = images(7, 3, torch.float64)
    torch.testing.assert_close(module(x), source(x), rtol=1e-6, atol=1e-6)
    assert all(share < 1e-12 for share in left.values())


def test_fitted_maps_bring_the_pruned_student_nearer_to_its_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    source, x = teacher(vgg(8, 8)).double(), images(50, 3, torch.float64)

    def gap() -> float:
        return float((aligned(vgg(4, 4), source)[0](x) - source(x)).detach().square().mean())

    fitted_gap = gap()
    monkeypatch.setattr(fskd, "fit_pointwise", lambda pairs, start: start)
    assert fitted_gap < 0.5 * gap()


def test_what_is_not_grafted_is_copied_bit_by_bit() -> None:
    source = teacher(vgg(4, 8)).double()
    module, _ = aligned(vgg(4, 4), source, [1, 2])
    assert_same_weights(module.network[0].state_dict(), source.network.blocks()[0].state_dict())


def test_a_run_computes_the_student_takes_no_step_and_leaves_the_teacher_alone(tmp_path: Path) -> None:
    source = teacher(plain_cnn(16))
    before = {name: value.clone() for name, value in source.state_dict().items()}
    module, record = fitted(tmp_path, source, "few_shot_fskd")
    assert_same_weights(before, source.state_dict())
    assert record.epochs == {"align": 0}
    assert module.steps_before == 0
    assert record.metrics.keys() == {"align/unexplained_block0", "align/unexplained_block1"}
    kept = module.network[0][0][0].weight
    assert all(any(torch.equal(one, other) for other in source.network.stages[0][0].weight) for one in kept)


def test_its_checkpoint_loads_without_a_teacher_and_predicts_the_same(tmp_path: Path) -> None:
    module, _ = fitted(tmp_path, teacher(plain_cnn(16)), "few_shot_fskd")
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert read_checkpoint(best)["state_dict"].keys() == module.state_dict().keys()
    again = FewShotFSKD.load_from_checkpoint(best, weights_only=True).eval()
    assert torch.equal(again(images(5)), module.eval()(images(5)))


def test_augmented_views_are_seen_beside_the_images(tmp_path: Path) -> None:
    words = ("data.augment=shift", "model.student.norm=none")
    source = teacher(plain_cnn(16, "none"))
    few, many = (
        fitted(tmp_path / views, source, "few_shot_fskd", *words, f"model.views={views}")[1].metrics
        for views in ("0", "5")
    )
    # more places than the map has freedom for
    assert few["align/unexplained_block1"] < many["align/unexplained_block1"]


def test_students_that_cannot_be_pruned_are_refused() -> None:
    residual = {"name": "resnet", "layers": [1, 1], "widths": [4, 8], "stem": "cifar"}
    with pytest.raises(UserError, match=r"block 1 has a BasicBlock"):
        student(residual)
    with pytest.raises(UserError, match=r"model\.grafted=\[2, 7\] must name blocks of 0 to 2"):
        student(plain_cnn(4), [2, 7])
    with pytest.raises(UserError, match="block 0 is not the same in student and teacher"):
        student(plain_cnn(2), [1, 2]).on_prerequisites({"teacher": teacher(plain_cnn(4))})
    with pytest.raises(UserError, match="block 0 is not the teacher's with as many or fewer channels"):
        student(plain_cnn(5)).on_prerequisites({"teacher": teacher(plain_cnn(4))})
    with pytest.raises(UserError, match="student has 3 blocks and the teacher has 2"):
        student(vgg(4, 4)).on_prerequisites({"teacher": teacher(vgg(4))})


def test_it_has_no_loss_to_lower() -> None:
    with pytest.raises(RuntimeError, match="computed, not trained"):
        student(plain_cnn(4)).losses({"x": images(2)})
