"""Heads without a non-linearity: in evaluation mode one affine map, which another head can take over."""

import torch
from torch import nn

from harness.errors import UserError
from lightning_modules.netgraft.folding import Pointwise, fold_into_linear

_STILL = (nn.Flatten, nn.Dropout, nn.Identity)


def head_layers(head: nn.Module, key: str) -> tuple[bool, list[nn.Linear | nn.BatchNorm1d]]:
    """Whether a head takes the mean over the places of a map, and its layers that hold weights.

    Args:
        head: the last block of a network.
        key: full key that describes the network, for the message.

    Raises:
        UserError: the head is not affine, or of a kind that is not known here.
    """
    pooled, found = False, []
    for layer in head.children():
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size == 1:
            pooled = True
        elif isinstance(layer, nn.Linear | nn.BatchNorm1d):
            found.append(layer)
        elif not isinstance(layer, _STILL):
            raise UserError(
                f"{key}: the head has a {type(layer).__name__}, and model=few_shot_fskd needs one that is"
                " affine in evaluation mode. Take a plain_cnn, a vgg or a resnet."
            )
    return pooled, found


@torch.no_grad()
def affine_map(layers: list[nn.Linear | nn.BatchNorm1d]) -> nn.Linear:
    """What the layers of a head do in evaluation mode, as one linear layer in float64.

    Args:
        layers: of :func:`head_layers`, the first of them linear.
    """
    first = layers[0]
    assert isinstance(first, nn.Linear)
    weight = torch.eye(first.in_features, dtype=torch.float64, device=first.weight.device)
    bias = weight.new_zeros(first.in_features)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.double() @ weight, layer.weight.double() @ bias
            bias = bias if layer.bias is None else bias + layer.bias.double()
        else:
            assert layer.running_mean is not None
            assert layer.running_var is not None
            scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
            weight = scale[:, None] * weight
            bias = scale * (bias - layer.running_mean.double()) + layer.bias.double()
    made = nn.Linear(weight.size(1), len(weight), device=weight.device, dtype=weight.dtype)
    made.weight.copy_(weight)
    made.bias.copy_(bias)
    return made


def check_heads(student: nn.Module, teacher: nn.Module) -> None:
    """Refuses a student's head that cannot be the teacher's behind a map of channels.

    Raises:
        UserError: one of them is not affine, only one takes a mean over places, or the student has too few
            features between its linear layers.
    """
    pooled, layers = head_layers(student, "model.student")
    pools, _ = head_layers(teacher, "model.requires.teacher")
    if pooled != pools:
        raise UserError(
            "model.student: its head and the teacher's must both take a mean over the last map, or neither."
            " Take a student of the teacher's family, such as vgg_small_half for a vgg_small."
        )
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    narrowest = min(layer.out_features for layer in linear)
    rank = min(linear[0].in_features, linear[-1].out_features)
    if narrowest < rank:
        raise UserError(
            f"model.student.head={narrowest} is too narrow for what the teacher's head does. Give it at least"
            f" {rank}."
        )


@torch.no_grad()
def copy_head(student: nn.Module, teacher: nn.Module, first: Pointwise | None) -> None:
    """Makes the student's head do what the teacher's does behind ``first``, exactly.

    The product of the teacher's layers and ``first`` is one matrix of rank C at most; a student with two
    linear layers takes its factors, by singular values, and a normalisation between them lets all pass.

    Args:
        student: its head.
        teacher: its head, in evaluation mode.
        first: from the student's channels to the teacher's; None where they are the same.
    """
    whole = affine_map(head_layers(teacher, "model.requires.teacher")[1])
    if first is not None:
        whole = fold_into_linear(whole, first)
    layers = head_layers(student, "model.student")[1]
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d):
            _let_pass(layer)
    *before, last = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weight = whole.weight
    if before:
        assert len(before) == 1
        left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
        root = sizes.sqrt()
        before[0].weight.zero_()
        before[0].weight[: len(root)].copy_(root[:, None] * right)
        if before[0].bias is not None:
            before[0].bias.zero_()
        weight = weight.new_zeros(last.weight.shape)
        weight[:, : len(root)] = left * root
    last.weight.copy_(weight)
    last.bias.copy_(whole.bias)


def _let_pass(norm: nn.BatchNorm1d) -> None:
    norm.reset_parameters()
    assert norm.running_var is not None
    norm.running_var.fill_(1.0 - norm.eps)
