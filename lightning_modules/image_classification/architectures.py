"""The networks that an image classifier may be, by name or by their own settings.

``network: vgg16`` names one of :data:`NAMED`; ``network: {name: vgg, widths: [...], ...}`` gives all
arguments of a class of :data:`KINDS`; ``network: torchvision/mobilenet_v3_small`` is any classifier of
torchvision. No torch in here, so that a mistake is told before it is imported.
"""

from typing import Any

from harness.annotations import NetworkSpec
from harness.configuration.check_values import Problem, check_keys
from harness.configuration.signatures import read_class
from harness.configuration.static_types import parameter_type
from harness.errors import UserError, nearest

_HOME = "lightning_modules.image_classification"

KINDS = {
    "plain_cnn": f"{_HOME}.networks.PlainCNN",
    "vgg": f"{_HOME}.vgg.VGG",
    "resnet": f"{_HOME}.resnet.ResNet",
}
"""The class of each ``name`` in a group of settings."""

TORCHVISION = "torchvision/"
"""How the name of one of torchvision's networks begins."""

_VGG16 = [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]]
_SMALL = [[16, 16], [32, 32], [48, 48], [96, 96], [96, 96]]
_WIDTHS = [64, 128, 256, 512]

NAMED: dict[str, dict[str, Any]] = {
    "plain_cnn": {"name": "plain_cnn", "width": 32, "depth": 3, "norm": "batch", "dropout": 0.0},
    # NetGraft's teacher for CIFAR, and its student (arXiv 2012.04915; the authors' code)
    "vgg16": {"name": "vgg", "widths": _VGG16, "head": 512, "head_norm": True, "linear_std": 0.01},
    "vgg16_half": {
        "name": "vgg",
        "widths": [*_VGG16[:3], [256] * 3, [256] * 3],
        "head": 512,
        "head_norm": False,
        "linear_std": 0.01,
    },
    # the same idea for small embedded images of 32 pixels
    "vgg_small": {"name": "vgg", "widths": _SMALL, "head": 64, "head_norm": True, "linear_std": 0.05},
    "vgg_small_half": {
        "name": "vgg",
        "widths": [*_SMALL[:3], [48, 48], [48, 48]],
        "head": 64,
        "head_norm": False,
        "linear_std": 0.05,
    },
    # He et al., arXiv 1512.03385, table 1; with the stem that CIFAR's images ask for where it says so
    "resnet18": {"name": "resnet", "layers": [2, 2, 2, 2], "widths": _WIDTHS, "stem": "imagenet"},
    "resnet34": {"name": "resnet", "layers": [3, 4, 6, 3], "widths": _WIDTHS, "stem": "imagenet"},
    "resnet18_cifar": {"name": "resnet", "layers": [2, 2, 2, 2], "widths": _WIDTHS, "stem": "cifar"},
    "resnet34_cifar": {"name": "resnet", "layers": [3, 4, 6, 3], "widths": _WIDTHS, "stem": "cifar"},
    "resnet_small": {"name": "resnet", "layers": [2, 2, 2], "widths": [16, 32, 64], "stem": "cifar"},
    "resnet_small_half": {"name": "resnet", "layers": [1, 1, 1], "widths": [16, 32, 64], "stem": "cifar"},
}
"""What a name stands for."""

FACTS = ("in_channels", "image_size", "num_classes")
"""Arguments of every network that are not settings: the data give them."""


def settings_of(spec: NetworkSpec) -> dict[str, Any]:
    """``spec`` as a group of settings, ``{name: ..., **arguments}``.

    Args:
        spec: a name of :data:`NAMED` or of torchvision, or such a group.
    """
    if isinstance(spec, dict):
        return dict(spec)
    return dict(NAMED[spec]) if spec in NAMED else {"name": spec}


def network_problems(key: str, spec: NetworkSpec) -> list[Problem]:
    """What is wrong with ``spec``, as far as that can be told without the data.

    Args:
        key: full key, such as ``model.network``.
        spec: its value.
    """
    settings = settings_of(spec)
    name = settings.pop("name", None)
    if isinstance(name, str) and name.startswith(TORCHVISION):
        return _torchvision_problems(key, name.removeprefix(TORCHVISION), settings)
    if name not in KINDS:
        return [_unknown_name(key, spec, name)]
    info = read_class(KINDS[name])
    fields = {one: parameter_type(p) for one, p in info.parameters.items() if one not in FACTS}
    problems = check_keys(key, settings, fields, set(fields), owner=name)
    # of a key that is missing, and of one left over from a network of which only the name was changed
    whole = f" Write it whole: '{key}={{name: {name}, {', '.join(f'{field}: ...' for field in fields)}}}'."
    return [
        one._replace(message=one.message + whole)
        if fields.keys() != settings.keys() and one.key.rpartition(".")[2] not in fields.keys() & settings
        else one
        for one in problems
    ]


def _unknown_name(key: str, spec: NetworkSpec, name: Any) -> Problem:
    where, names = (f"{key}.name", list(KINDS)) if isinstance(spec, dict) else (key, list(NAMED))
    if isinstance(spec, dict) and name is None:
        message = f"{where} is missing: {key}={{...}} must have a name, one of {', '.join(names)}."
    elif isinstance(spec, dict) and name in NAMED:
        message = f"{where}={name}: {name} has its settings already. Write {key}={name}."
    else:
        message = f"{where} must be one of {', '.join(names)}, got {name!r}.{nearest(str(name), names)}"
        if key.endswith(".network"):  # a student has to be cut into blocks
            message += f" Or write {key}={TORCHVISION}<name> for one of torchvision's, as mobilenet_v3_small."
    return Problem(where, message)


def _torchvision_problems(key: str, name: str, settings: dict[str, Any]) -> list[Problem]:
    if settings:
        return [
            Problem(
                key,
                f"{key}: {TORCHVISION}{name} takes no settings, got {', '.join(settings)}."
                f" Write {key}={TORCHVISION}{name}.",
            )
        ]
    if not name:
        return [Problem(key, f"{key}={TORCHVISION} lacks a name. Write {key}={TORCHVISION}resnet50, say.")]
    return []  # the names are torchvision's own, which needs torch


def check_network(key: str, spec: NetworkSpec) -> None:
    """Refuses what :func:`network_problems` finds.

    Raises:
        UserError: with the first of them.
    """
    for problem in network_problems(key, spec):
        raise UserError(problem.message)
