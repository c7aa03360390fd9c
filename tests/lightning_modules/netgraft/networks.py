"""Small teachers and students for the tests of grafting."""

from typing import Any

import torch

from lightning_modules.image_classification.block_network import BlockNetwork, cut_shapes
from lightning_modules.image_classification.build import build_block_network
from lightning_modules.netgraft.student import GraftedStudent

CLASSES = 4
SIZE = 16
VGG: dict[str, Any] = {"name": "vgg", "head": 6, "linear_std": 0.3}
TEACHER = VGG | {"widths": [[4], [6, 6], [8]], "head_norm": True}
STUDENT = VGG | {"widths": [[4], [3, 5], [4]], "head_norm": False}
RESNETS = (
    {"name": "resnet", "layers": [1, 2, 1], "widths": [4, 8, 12], "stem": "cifar"},
    {"name": "resnet", "layers": [1, 1, 1], "widths": [4, 6, 8], "stem": "cifar"},
)
PLAIN = (
    {"name": "plain_cnn", "width": 4, "depth": 3, "norm": "batch", "dropout": 0.1},
    {"name": "plain_cnn", "width": 3, "depth": 3, "norm": "batch", "dropout": 0.1},
)
PAIRS = {"vgg": (TEACHER, STUDENT), "resnet": RESNETS, "plain_cnn": PLAIN}
"""Teacher and student of each kind."""


def network(spec: dict[str, Any], seed: int, dtype: torch.dtype = torch.float64) -> BlockNetwork:
    """A network in evaluation mode that is not in its first state: biases and statistics are random too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = build_block_network(spec, 3, SIZE, CLASSES).to(dtype)
        made.train()
        made(torch.randn(32, 3, SIZE, SIZE, dtype=dtype))  # moves running statistics
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def grafted(
    kind: str, blocks: tuple[int, ...], bias: bool = True, dtype: torch.dtype = torch.float64
) -> tuple[BlockNetwork, GraftedStudent]:
    """A teacher and a student that fits into it."""
    teacher = network(PAIRS[kind][0], 0, dtype)
    student = GraftedStudent(network(PAIRS[kind][1], 1, dtype), blocks, 3, SIZE, bias)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        student.fit_into(cut_shapes(teacher.blocks(), 3, SIZE))
        with torch.no_grad():
            for adaption in student.adaptions():
                if adaption.bias is not None:
                    adaption.bias.normal_()
    student.copy_blocks(teacher.blocks())
    return teacher, student.eval()


def images(number: int = 5, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random images ``[number, 3, 16, 16]``."""
    return torch.randn(number, 3, SIZE, SIZE, dtype=dtype, generator=torch.Generator().manual_seed(3))
