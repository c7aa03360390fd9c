"""Training of NetGraft: phases, what moves in them and what does not, folding at the end."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from callbacks.savepoints import Savepoints
from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.errors import UserError
from harness.metrics_csv import MetricsCSV
from harness.phases import fit_phases
from harness.savepoints import read_savepoint
from lightning_modules.image_classification.block_network import BlockNetwork
from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.netgraft.grafting import Grafting
from lightning_modules.netgraft.losses import normalised_loss
from lightning_modules.netgraft.module import NetGraft
from lightning_modules.netgraft.student import GraftedStudent
from run import run as run_command
from tests.small_runs import FittedRun, assert_same_weights, configuration

WORDS = (
    "model=netgraft",
    "data=digits",
    "model.student={name: plain_cnn, width: 4, depth: 2, norm: batch, dropout: 0.0}",
    "model.shots=3",
    "model.stage1_epochs=[3,2,1]",
    "model.stage2_epochs=2",
    "model.batch_size=40",  # twelve of thirty images a step, the last batch being smaller
    "data.num_train=500",
    "data.num_val=100",
)
VGG = "{name: vgg, widths: [[4],[5],[6]], head: 8, head_norm: true, linear_std: 0.3}"
HALF = "{name: vgg, widths: [[4],[3],[4]], head: 8, head_norm: false, linear_std: 0.3}"


def teacher(
    network: str = "{name: plain_cnn, width: 6, depth: 2, norm: batch, dropout: 0.0}",
) -> ImageClassifier:
    """A classifier of digits that was not trained, but is not in its first state either."""
    module = build_module(
        configuration("model=classifier", "data=digits", f"model.network={network}", "seed=5")
    )
    assert isinstance(module, ImageClassifier)
    module.train()
    module(torch.rand(64, 1, 8, 8))
    return module.eval().requires_grad_(False)


def digest(module: torch.nn.Module) -> str:
    content = b"".join(value.numpy().tobytes() for value in module.state_dict().values())
    return hashlib.sha256(content).hexdigest()


def fit(
    folder: Path, *words: str, of: ImageClassifier | None = None, savepoints: Savepoints | None = None
) -> FittedRun:
    """A run whose teacher is given, or the rest of one that has savepoints in ``folder``."""
    config = configuration(*WORDS, f"model.requires.teacher={given(folder.parent)}", *words)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    module = build_module(config)
    assert isinstance(module, NetGraft)
    module.on_prerequisites({"teacher": of or teacher()})
    data, callbacks = build_datamodule(config), build_callbacks(config["callbacks"])
    if savepoints is not None:
        callbacks = [one for one in callbacks if not isinstance(one, Savepoints)] + [savepoints]
    loggers = build_loggers(config["logger"], folder)
    savepoint = read_savepoint(folder / "checkpoints")
    if savepoint is not None:
        next(one for one in loggers if isinstance(one, MetricsCSV)).go_on_after(savepoint.note["rows"])
    run = Run(config, folder, module, data, callbacks, loggers)
    return FittedRun(run, fit_phases(run, savepoint))


def given(folder: Path) -> Path:
    """A file that stands where the configuration looks for the teacher's checkpoint; it is never opened."""
    path = folder / "teacher.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def batches(number: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(8)
    return [torch.rand(5, 1, 8, 8, generator=generator) for _ in range(number)]


def module_of(*words: str, of: ImageClassifier | None = None, tmp_path: Path) -> NetGraft:
    config = configuration(*WORDS, f"model.requires.teacher={given(tmp_path)}", *words)
    module = build_module(config)
    assert isinstance(module, NetGraft)
    module.on_prerequisites({"teacher": of or teacher()})
    return module


VGG_WORDS = (f"model.student={HALF}", "model.grafted=[1,2,3]")


def test_phases_join_the_blocks_from_the_front(tmp_path: Path) -> None:
    module = module_of(tmp_path=tmp_path)
    assert module.phases == ("stage1", "join_1", "join_2")
    assert module.stages.joins == ((0, 1), (0, 1, 2))
    lengths = []
    for module.phase_index in range(3):
        lengths.append((module.joined, module.phase_epochs))
    assert lengths == [((), 3), ((0, 1), 2), ((0, 1, 2), 2)]


@pytest.mark.parametrize(
    ("words", "phases"),
    [
        (("model.stage2=none",), ("stage1",)),
        (("model.stage2=at_once",), ("stage1", "join_all")),
        (("model.stage1=false", "model.stage2=at_once"), ("join_all",)),
        (("model.stage1=false",), ("join_0", "join_1", "join_2")),
    ],
)
def test_stages_can_be_left_out(words: tuple[str, ...], phases: tuple[str, ...], tmp_path: Path) -> None:
    assert module_of(*words, tmp_path=tmp_path).phases == phases


def test_a_random_order_follows_from_the_seed_and_joins_every_block(tmp_path: Path) -> None:
    orders = {
        module_of("model.stage2=random", f"seed={seed}", tmp_path=tmp_path).stages.joins
        for seed in (0, 0, 1, 2, 3, 4)
    }
    assert 1 < len(orders) <= 5
    assert all(joins[-1] == (0, 1, 2) and set(joins[0]) < {0, 1, 2} for joins in orders)


def test_blocks_alone_are_trained_as_one_by_one(tmp_path: Path) -> None:
    """Joint stage 1 is sequential stage 1, given the same batches and first weights."""
    joint = module_of(*VGG_WORDS, of=teacher(VGG), tmp_path=tmp_path)
    alone = module_of(*VGG_WORDS, of=teacher(VGG), tmp_path=tmp_path)
    assert_same_weights(joint.state_dict(), alone.state_dict())
    joint.train()
    alone.train()
    optimizer = torch.optim.Adam([p for p in joint.network.parameters() if p.requires_grad], lr=0.01)
    for x in batches():
        cuts = joint.grafting.cuts(x)
        losses = [joint.loss(z, cuts[-1]) for z in joint.grafting.lone_logits(cuts, (1, 2, 3))]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    for block in (1, 2, 3):
        network = alone.network
        own = [
            *network.block(block).parameters(),
            *(p for c in network.adaptions([block]) for p in c.parameters()),
        ]
        optimizer = torch.optim.Adam(own, lr=0.01)
        for x in batches():
            cuts = alone.grafting.cuts(x)
            optimizer.zero_grad()
            alone.loss(alone.grafting.logits(cuts, (block,)), cuts[-1]).backward()
            optimizer.step()
    for name, value in joint.state_dict().items():
        torch.testing.assert_close(value, alone.state_dict()[name], atol=1e-6, rtol=1e-6)


def test_the_first_grafted_network_is_the_first_block_s_and_the_last_is_the_student(tmp_path: Path) -> None:
    module = module_of(*VGG_WORDS, of=teacher(VGG), tmp_path=tmp_path).eval()
    (x,) = batches(1)
    cuts = module.grafting.cuts(x)
    first = module.grafting.lone_logits(cuts, (1, 2, 3))[0]
    torch.testing.assert_close(module.grafting.logits(cuts, (1,)), first)
    assert torch.equal(module.grafting.logits(cuts, (1, 2, 3)), module.network(x))
    # nothing of the teacher but the copied prefix is in the student
    for block in module.grafting.teacher[1:]:
        for parameter in block.parameters():
            parameter.data.zero_()
    assert torch.equal(module.network(x), module.grafting.logits(cuts, (1, 2, 3)))


def test_a_step_of_a_phase_gives_a_gradient_to_what_it_trains_and_to_nothing_else(tmp_path: Path) -> None:
    run = fit(tmp_path / "run")
    module: Any = run.module
    (x,) = batches(1)
    for module.phase_index, trained in enumerate([(0, 1, 2), (0, 1), (0, 1, 2)]):
        module.zero_grad()
        module.on_phase_start(run.datamodule)
        module.train()
        cuts = module.grafting.cuts(x)
        assert not any(cut.requires_grad for cut in cuts)
        logits = (
            [module.grafting.logits(cuts, trained)]
            if module.joined
            else module.grafting.lone_logits(cuts, trained)
        )
        sum(module.loss(z, cuts[-1]) for z in logits).backward()
        for block in range(3):
            own = [*module.network.block(block).parameters()]
            own += [p for one in module.network.adaptions([block]) for p in one.parameters()]
            assert all((p.grad is not None) == (block in trained) for p in own), (module.phase, block)
            assert all(p.grad.abs().sum() > 0 for p in own if p.grad is not None)
        assert all(p.grad is None for p in module.teacher.parameters())


def test_the_teacher_is_bit_unchanged_and_no_part_of_the_checkpoint(tmp_path: Path) -> None:
    of = teacher()
    before = digest(of)
    run = fit(tmp_path / "run", of=of)
    assert digest(of) == before
    assert not any("teacher" in name for name in run.weights)
    assert {id(p) for p in run.module.parameters()}.isdisjoint({id(p) for p in of.parameters()})


def test_the_copied_prefix_stays_the_teacher_s_and_each_phase_moves_its_blocks_alone(tmp_path: Path) -> None:
    of = teacher(VGG)
    words = (*VGG_WORDS, "model.stage1=false")
    kept: list[dict[str, Tensor]] = []

    class Keeping(NetGraft):
        def on_phase_end(self, trainer: Any, datamodule: Any) -> dict[str, float]:
            kept.append({name: value.clone() for name, value in self.network.network.state_dict().items()})
            return super().on_phase_end(trainer, datamodule)

    config = configuration(*WORDS, f"model.requires.teacher={given(tmp_path)}", *words)
    module = Keeping(**{key: value for key, value in config["model"].items() if key != "_target_"})
    module.on_prerequisites({"teacher": of})
    kept.append({name: value.clone() for name, value in module.network.network.state_dict().items()})
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    callbacks, loggers = (
        build_callbacks(config["callbacks"]),
        build_loggers(config["logger"], tmp_path / "run"),
    )
    fit_phases(Run(config, tmp_path / "run", module, build_datamodule(config), callbacks, loggers))
    names = {1: "features.1", 2: "features.2", 3: "classifier"}
    for before, after, joined in zip(kept[:-1], kept[1:], [(1,), (1, 2), (1, 2, 3)], strict=True):
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        expected = tuple(names[block] for block in joined)
        assert moved, joined
        assert moved == {name for name in before if name.startswith(expected)}
    source = of.network.state_dict()
    prefix = [name for name in source if name.startswith("features.0")]
    assert prefix
    assert all(torch.equal(source[name], kept[-1][name]) for name in prefix)


def test_a_block_stops_when_its_epochs_are_done(tmp_path: Path) -> None:
    rows = metrics(fit(tmp_path / "run", "model.stage2=none").folder)
    told = [[block for block in range(3) if row.get(f"train/loss_block{block}")] for row in rows]
    assert told == [[0, 1, 2], [0, 1], [0]]
    short = fit(tmp_path / "short", "model.stage2=none", "model.stage1_epochs=[1,1,1]")
    long = fit(tmp_path / "long", "model.stage2=none", "model.stage1_epochs=[1,3,3]")
    for name in (name for name in short.weights if "stages.0" in name or "stages.1" in name):
        # the statistics are those of the few images, which block 0 sees first
        assert torch.equal(short.weights[name], long.weights[name]), name
    changed = [name for name in short.weights if not torch.equal(short.weights[name], long.weights[name])]
    assert changed, "the other blocks went on"


def metrics(folder: Path) -> list[dict[str, str]]:
    import csv

    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss")]
    return rows


def test_no_label_is_read_after_the_draw(tmp_path: Path) -> None:
    config = configuration(*WORDS, f"model.requires.teacher={given(tmp_path)}")
    runs = []
    for scramble in (False, True):
        folder = tmp_path / f"run_{scramble}"
        (folder / "checkpoints").mkdir(parents=True)
        module, data = build_module(config), build_datamodule(config)
        assert isinstance(module, NetGraft)
        module.on_prerequisites({"teacher": teacher()})
        if scramble:
            keep = data.keep_few

            def keep_and_scramble(*arguments: Any, keep: Any = keep, data: Any = data) -> Tensor:
                kept: Tensor = keep(*arguments)
                data.splits["train"].labels.fill_(0)
                return kept

            data.keep_few = keep_and_scramble
            data.splits["val"].labels.fill_(0)  # nothing looks at the validation set either
        callbacks, loggers = build_callbacks(config["callbacks"]), build_loggers(config["logger"], folder)
        run = Run(config, folder, module, data, callbacks, loggers)
        runs.append(FittedRun(run, fit_phases(run)))
        assert "y" not in next(iter(data.train_dataloader()))
    assert_same_weights(runs[0].weights, runs[1].weights)


def test_what_is_tested_is_the_plain_student(tmp_path: Path) -> None:
    run = fit(tmp_path / "run")
    module: Any = run.module
    tested = run.test()
    module.eval()
    assert run.record.metrics["graft/fold_error"] < 1e-5
    assert tested["test/acc"] == pytest.approx(run.record.metrics["test/acc_join_2"])
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(module(x), module.plain_student()(x))
        assert torch.equal(module(x), module._plain[0](x))


def test_the_student_s_logits_are_as_long_as_the_teacher_s_on_the_few_images(tmp_path: Path) -> None:
    run = fit(tmp_path / "run")
    module: Any = run.module.eval()
    few = torch.cat(module.few_batches(run.datamodule))
    assert len(few) == 30
    with torch.no_grad():
        own, other = (network(few).norm(dim=1).mean() for network in (module.network, module.teacher))
    assert own.item() == pytest.approx(other.item(), rel=1e-4)


def test_batch_normalisation_has_the_statistics_of_the_few_images(tmp_path: Path) -> None:
    run = fit(tmp_path / "run")
    module: Any = run.module.eval()
    few = torch.cat(module.few_batches(run.datamodule))
    convolution, norm = module.network.block(0)[0][:2]
    with torch.no_grad():
        maps = convolution(few)
    torch.testing.assert_close(norm.running_mean, maps.mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("shots", "size"),
    [(1, 6), (2, 12), (3, 19), (4, 25), (5, 32), (7, 44), (9, 57), (10, 64), (20, 128), (50, 320)],
)
def test_batches_and_rates_are_in_proportion_to_the_images(shots: int, size: int, tmp_path: Path) -> None:
    words = ("model.batch_size=64", "model.lr_blocks=[1e-4,2e-4,3e-4]", "model.lr_adaption=1e-2")
    module = module_of(*words, f"model.shots={shots}", "data.num_train=1500", tmp_path=tmp_path)
    config = configuration(*WORDS, f"model.requires.teacher={given(tmp_path)}", "data.num_train=1500")
    if shots * 10 <= 500:
        data = build_datamodule(config)
        module.on_phase_start(data)
        assert len(next(iter(data.train_dataloader()))["x"]) == min(size, shots * 10)
    rates = [group["lr"] for group in module.configure_optimizers().param_groups]
    f = shots / 10
    assert rates == pytest.approx([1e-4 * f, 1e-2 * f, 2e-4 * f, 1e-2 * f, 3e-4 * f, 1e-2 * f])
    module.phase_index = 1
    assert [group["lr"] for group in module.configure_optimizers().param_groups] == [module.lr_stage2]
    module.on_phase_start(build_datamodule(config))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.stage1=false", "model.stage2=none"), "leave nothing to train"),
        (("+model.optimizer.lr=0.1",), "model.optimizer.lr=0.1 has no effect"),
        (("model.stage1_epochs=[1,2]",), "must hold one value for each grafted block \\(0, 1, 2\\)"),
        (("model.lr_blocks=[0.1]",), "model.lr_blocks=\\[0.1\\] must hold one value"),
        (("model.grafted=[1]", "model.stage1_epochs=1"), "there is nothing to join. Set model.stage2=none"),
        (("model.grafted=[7]", "model.stage2=none", "model.stage1_epochs=1"), "must name blocks of 0 to 2"),
        (("model.student=torchvision/resnet18",), "takes images in 3 colours"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        module_of(*words, tmp_path=tmp_path)


def test_a_teacher_that_cannot_be_cut_or_has_other_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.student has 3 blocks and the teacher has 4"):
        module_of(of=teacher(VGG), tmp_path=tmp_path)
    torchvision = teacher()
    torchvision.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(UserError, match=r"model\.requires\.teacher cannot be cut into blocks"):
        module_of(of=torchvision, tmp_path=tmp_path)


def test_too_few_images_of_a_class_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.shots=60"):
        fit(tmp_path / "run", "model.shots=60")


def test_looking_at_validation_images_needs_some_and_changes_nothing(tmp_path: Path) -> None:
    module = module_of("model.eval_every=1", tmp_path=tmp_path)
    data = build_datamodule(configuration(*WORDS, f"model.requires.teacher={given(tmp_path)}"))
    del data.splits["val"]
    with pytest.raises(UserError, match=r"model\.eval_every=1 needs validation images"):
        module.on_phase_start(data)
    looking, blind = fit(tmp_path / "looking", "model.eval_every=2"), fit(tmp_path / "blind")
    assert_same_weights(looking.weights, blind.weights)
    assert "graft/val_acc_block0" in (looking.folder / "metrics.csv").read_text()


class KeepingSavepoints(Savepoints):
    """Keeps a copy of the run folder at every savepoint."""

    def __init__(self, copies: Path) -> None:
        super().__init__(0.0)
        self.copies = copies

    def save(self, trainer: Any, stage: Any) -> None:
        import shutil

        super().save(trainer, stage)
        assert self.checkpoints is not None
        number = len([*self.copies.iterdir()]) if self.copies.is_dir() else 0
        shutil.copytree(
            self.checkpoints.parent, self.copies / f"{number:03d}_{trainer.lightning_module.phase}_{stage}"
        )


def test_a_run_that_is_killed_in_any_phase_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = fit(tmp_path / "unbroken", savepoints=KeepingSavepoints(tmp_path / "copies"))
    tested = unbroken.test()
    copies = sorted((tmp_path / "copies").iterdir())
    stages = {copy.name.split("_", 1)[1] for copy in copies}
    assert {"stage1_batch", "stage1_epoch", "stage1_trained", "stage1_done", "join_1_batch"} <= stages
    assert {"join_1_trained", "join_1_done", "join_2_epoch", "join_2_trained"} <= stages
    seen = set()
    for copy in copies:
        kind = copy.name.split("_", 1)[1]
        if kind in seen:  # one kill of each kind
            continue
        seen.add(kind)
        again = fit(copy, savepoints=Savepoints(None))
        assert_same_weights(again.weights, unbroken.weights)
        assert again.record.metrics == unbroken.record.metrics
        assert (copy / "metrics.csv").read_bytes() == (unbroken.folder / "metrics.csv").read_bytes()
        states = [one.module.report.state() for one in (again, unbroken)]  # type: ignore[attr-defined]
        tensors = [{key: one.pop(key) for key in ("cosines", "confusions")} for one in states]
        assert states[0] == states[1]
        assert_same_weights(*tensors)
        assert again.test() == tested


def test_one_block_is_the_whole_student_distilled_by_the_loss(tmp_path: Path) -> None:
    class OneBlock(BlockNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

        def blocks(self) -> list[torch.nn.Module]:
            return [self.body]

    torch.manual_seed(0)
    own, other = OneBlock(), OneBlock().eval().requires_grad_(False)
    student = GraftedStudent(own, (0,), 1, 8, adaption_bias=True)
    student.fit_into(student.shapes)
    grafting = Grafting(other.blocks(), student)
    (x,) = batches(1)
    cuts = grafting.cuts(x)
    loss = normalised_loss(grafting.logits(cuts, (0,)), cuts[-1])
    assert torch.equal(loss, normalised_loss(own(x), other(x)))
    (lone,) = grafting.lone_logits(cuts, (0,))
    assert torch.equal(lone, own(x))


def test_the_head_alone_can_become_the_teacher_s(tmp_path: Path) -> None:
    """In evaluation mode both heads are affine, of a rank that the student's channels allow."""
    words = (*VGG_WORDS, "model.stage2=none", "model.stage1_epochs=[1,1,300]", "model.lr_blocks=0.01")
    words = (*words, "model.scale_lr=false", "model.lr_adaption=0.01")
    run = fit(tmp_path / "run", *words, of=teacher(VGG))
    last = metrics(run.folder)[-1]
    assert float(last["train/loss_block3"]) < 0.01
    assert run.record.metrics["test/acc_block_3"] == pytest.approx(
        run.record.metrics["test/acc_teacher"], abs=0.05
    )


def test_what_follows_a_phase_runs_where_the_phase_ran(tmp_path: Path) -> None:
    # after a fit Lightning moves the module to the CPU; the meta device stands for a GPU here
    module = module_of(tmp_path=tmp_path)
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    module.to_device_of(trainer)
    assert {p.device.type for p in module.parameters()} == {"meta"}
    assert {p.device.type for p in module.teacher.parameters()} == {"meta"}


@pytest.mark.parametrize(("shots", "world", "own"), [(3, 2, 64), (1, 2, 50), (10, 3, 64)])
def test_batches_that_processes_cannot_share_are_told_with_a_size_that_they_can(
    shots: int, world: int, own: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(f"model.shots={shots}", f"model.batch_size={own}", tmp_path=tmp_path)
    monkeypatch.setattr(NetGraft, "trainer", SimpleNamespace(world_size=world))
    with pytest.raises(UserError, match=f"which {world} processes cannot share evenly") as caught:
        module._check_shares()
    module.batch_size = int(str(caught.value).rpartition("model.batch_size=")[2].rstrip("."))
    module._check_shares()


def test_statistics_of_batch_normalisation_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    found = []
    for size in (30, 13, 29):  # one batch; 13, 13 and 4; 29 and a rest of one image
        run = fit(
            tmp_path / f"run_{size}", f"data.batch_size={size}", "model.stage2=none", "model.stage1_epochs=1"
        )
        norm = run.module.network.block(0)[0][1]  # type: ignore[attr-defined,operator]
        found.append(norm.running_mean)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0], found[2], atol=1e-5, rtol=1e-4)


def test_schedules_with_rates_of_their_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sets rates of its own"):
        module_of("model.scheduler={name: OneCycleLR, max_lr: 0.05}", tmp_path=tmp_path)


def test_the_weights_of_the_lowest_few_shot_loss_can_be_kept(tmp_path: Path) -> None:
    words = ("model.stage2=none", "callbacks.best_weights.monitor=train/loss", "model.stage1_epochs=6")
    run = fit(tmp_path / "run", *words)
    rows = [float(row["train/loss"]) for row in metrics(run.folder)]
    assert run.record.best_epochs["stage1"] == min(range(len(rows)), key=rows.__getitem__)


def test_a_student_that_does_not_fit_is_told_before_the_teacher_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = "{name: plain_cnn, width: 4, depth: 3, norm: batch, dropout: 0.0}"
    words = ["model=netgraft", "data=digits", f"model.student={student}"]
    assert run_command([*words, f"paths.runs={tmp_path / 'runs'}", "logger=csv", "hardware=cpu"]) == 2
    told = capsys.readouterr().err
    assert "model.student has 4 blocks and the teacher has 3" in told
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_stand_in_s_acceptance(tmp_path: Path) -> None:
    """Section 5: at K = 5 at least .85, .4 above distillation from scratch, .3 above the naive join."""
    words = [f"paths.runs={tmp_path}", "data=shapes", "model.shots=5", "logger=csv", "hardware=cpu"]
    words.append("~callbacks.pictures")
    for model in ("netgraft", "few_shot_kd"):
        assert run_command([f"model={model}", *words]) == 0
    found = {}
    for model in ("netgraft", "few_shot_kd"):
        (folder,) = (tmp_path / f"{model}_shapes").iterdir()
        found[model] = json.loads((folder / "results.json").read_text())["metrics"]
    reached = found["netgraft"]["test/acc"]
    assert reached >= 0.85
    assert reached >= found["few_shot_kd"]["test/acc"] + 0.4
    assert reached >= found["netgraft"]["test/acc_naive_join"] + 0.3
