"""NetGraft as its authors' published code goes about it, in our own words and in nothing but torch.

What ``benchmarks.netgraft`` compares with; its source is our specification of that code, not the code. Block
after block in stage 1, join after join in stage 2. A step sends the images through the whole teacher, with a
graph that is thrown away, then through the whole grafted network, and back through all of it: nothing is
frozen. After every epoch the grafted network is tested on all test images, and the best weights are copied.
Images come one by one from a ``DataLoader`` with torchvision's transforms.

Where the specification is silent, the cheaper way is taken: tests without a graph, no worker processes,
images as tensors from the start, the teacher in evaluation mode once and for all.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from datamodules.images import ImageDataModule, LabelledImages
from lightning_modules.netgraft.module import NetGraft


def authors_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the logits, each scaled to length 1, summed over images and classes.

    Args:
        student: ``[B, C]``.
        teacher: ``[B, C]``.
    """
    scaled = [logits / logits.norm(dim=1, keepdim=True) for logits in (student, teacher)]
    return (scaled[0] - scaled[1]).pow(2).sum()


@dataclass(frozen=True)
class Phase:
    """One optimisation.

    Attributes:
        name: ``block_<l>`` in stage 1, ``join_<l>`` in stage 2.
        joined: numbers of the student's blocks that stand in the teacher, all of them trained.
        epochs: how many the recipe asks for.
        stage: 1 or 2.
    """

    name: str
    joined: tuple[int, ...]
    epochs: int
    stage: int


@dataclass(frozen=True)
class EpochTime:
    """Wall-clock and CPU seconds of an epoch, ``(wall, cpu)`` each.

    Attributes:
        train: of its steps.
        test: of the test pass after it.
    """

    train: tuple[float, float]
    test: tuple[float, float]


class PerImage(Dataset[tuple[Tensor, int]]):
    """Images that are changed one by one as they are asked for."""

    def __init__(self, images: LabelledImages, change: transforms.Compose) -> None:
        self._images = images
        self._change = change

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        x = self._change(self._images.images[number].float() / 255)
        return x, int(self._images.labels[number])


class AuthorsGrafting:
    """The procedure, with weights and settings of a :class:`NetGraft` that has its teacher.

    Args:
        module: weights and settings are copied; it is not touched.
        datamodule: after ``keep_few``.
    """

    def __init__(self, module: NetGraft, datamodule: ImageDataModule) -> None:
        # a copy each for teacher and grafted network would cost the same: what is not trained is shared
        self.teacher = [copy.deepcopy(block).eval().requires_grad_(True) for block in module.grafting.teacher]
        student = module.network
        self.adaptions = {block: copy.deepcopy(student.adaptions([block])) for block in module.blocks}
        self.blocks = {block: copy.deepcopy(student.block(block)).train() for block in module.blocks}
        self._has_t2s = {block: str(block) in student.t2s for block in module.blocks}
        self._has_s2t = {block: str(block) in student.s2t for block in module.blocks}
        self.lr_blocks, self.lr_adaption = module.lr_blocks, module.lr_adaption
        self.lr_stage2 = module.lr_stage2
        grafted = module.blocks
        self.phases = [
            *(Phase(f"block_{b}", (b,), module.stage1_epochs[b], 1) for b in grafted),
            *(
                Phase(f"join_{grafted[count - 1]}", grafted[:count], module.stage2_epochs, 2)
                for count in range(2, len(grafted) + 1)
            ),
        ]
        self.train_loader, self.test_loader = _loaders(module, datamodule)

    def grafted_logits(self, x: Tensor, joined: Sequence[int]) -> Tensor:
        """Logits ``[B, C]`` of the teacher with some of the student's blocks in it, from the images on."""
        for number, block in enumerate(self.teacher):
            x = self._grafted_block(number, x) if number in joined else block(x)
        return x

    def _grafted_block(self, number: int, x: Tensor) -> Tensor:
        adaptions = list(self.adaptions[number])
        if self._has_t2s[number]:
            x = adaptions.pop(0)(x)
        x = self.blocks[number](x)
        return adaptions.pop(0)(x) if self._has_s2t[number] else x

    def loss(self, x: Tensor, joined: Sequence[int]) -> Tensor:
        """That of images ``[B, C, H, W]``: the whole teacher first, with a graph that is not used."""
        of_teacher = x
        for block in self.teacher:
            of_teacher = block(of_teacher)
        return authors_loss(self.grafted_logits(x, joined), of_teacher.detach())

    def optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        """A fresh Adam for one phase."""
        blocks = [p for number in phase.joined for p in self.blocks[number].parameters()]
        adaptions = [p for n in phase.joined for one in self.adaptions[n] for p in one.parameters()]
        if phase.stage == 2:
            return torch.optim.Adam([*blocks, *adaptions], lr=self.lr_stage2)
        groups = [{"params": blocks, "lr": self.lr_blocks[phase.joined[0]]}]
        if adaptions:
            groups.append({"params": adaptions, "lr": self.lr_adaption})
        return torch.optim.Adam(groups)

    def train_epoch(self, phase: Phase, optimizer: torch.optim.Optimizer) -> None:
        """All steps of one epoch."""
        self._train(True)
        for x, _ in self.train_loader:
            optimizer.zero_grad()
            self.loss(x, phase.joined).backward()
            optimizer.step()

    @torch.no_grad()
    def test(self, joined: Sequence[int]) -> float:
        """Accuracy of the grafted network on the test images."""
        self._train(False)
        right = total = 0
        for x, y in self.test_loader:
            right += int((self.grafted_logits(x, joined).argmax(dim=1) == y).sum())
            total += len(y)
        return right / total

    def run(self, phase: Phase, epochs: int | None = None) -> Iterator[EpochTime]:
        """Trains one phase and tells what each of its epochs took.

        Stage 2 ends with the weights that the test set liked best, as theirs does.

        Args:
            phase: one of :attr:`phases`.
            epochs: fewer than the recipe's; None for all.
        """
        optimizer = self.optimizer(phase)
        best, kept = -1.0, None
        for _ in range(phase.epochs if epochs is None else epochs):
            marks = [now()]
            self.train_epoch(phase, optimizer)
            marks.append(now())
            accuracy = self.test(phase.joined)
            if accuracy > best:
                best, kept = accuracy, copy.deepcopy(self._state(phase.joined))
            marks.append(now())
            first, second, third = marks
            yield EpochTime(since(first, second), since(second, third))
        if phase.stage == 2 and kept is not None:
            for module, state in zip(self._modules(phase.joined), kept, strict=True):
                module.load_state_dict(state)

    def _state(self, joined: Sequence[int]) -> list[dict[str, Tensor]]:
        return [module.state_dict() for module in self._modules(joined)]

    def _modules(self, joined: Sequence[int]) -> list[nn.Module]:
        return [one for number in joined for one in (self.blocks[number], *self.adaptions[number])]

    def _train(self, mode: bool) -> None:
        for block in self.blocks.values():
            block.train(mode)


def now() -> tuple[float, float]:
    """Wall-clock and CPU time, in seconds from some beginning."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float], end: tuple[float, float] | None = None) -> tuple[float, float]:
    """Wall-clock and CPU seconds from one :func:`now` to another, or until now."""
    end = now() if end is None else end
    return end[0] - start[0], end[1] - start[1]


def _loaders(
    module: NetGraft, datamodule: ImageDataModule
) -> tuple[DataLoader[tuple[Tensor, int]], DataLoader[tuple[Tensor, int]]]:
    size = datamodule.image_size
    paddings = {"crop_flip": (size // 8, "constant"), "replicate_crop_flip": (round(size / 10), "edge")}
    padding, mode = paddings[datamodule.augment]
    normalise = transforms.Normalize(datamodule.mean, datamodule.std)
    change = transforms.Compose(
        [
            transforms.RandomCrop(size, padding=padding, padding_mode=mode),
            transforms.RandomHorizontalFlip(),
            normalise,
        ]
    )
    few, test = datamodule.splits["train"], datamodule.splits["test"]
    batch = max(int(module.batch_size * module.shots / 10), 1)
    return (
        DataLoader(PerImage(few, change), batch_size=batch, shuffle=True),
        DataLoader(PerImage(test, transforms.Compose([normalise])), batch_size=datamodule.batch_size),
    )
