"""Published weights of classifiers: found or fetched, hashed, and only then read, as plain data.

``weights`` of a classifier is one of

- a name of torchvision's weights, ``IMAGENET1K_V1`` or ``DEFAULT``, for its networks and for our ResNets;
- ``netgraft``, the authors' teacher for CIFAR-10 or CIFAR-100 (arXiv 2012.04915, release v1.0), for
  ``vgg16``;
- the path of a file that holds a state dict under either kind of names.

Torchvision's file names end in the first eight digits of their SHA-256, which are compared. Of the authors'
files no hash is published, so that the one found on first use is kept and compared from then on.
"""

import hashlib
import io
import logging
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from datamodules.download import RemoteFile, fetch, read_verified
from harness.annotations import NetworkSpec
from harness.errors import UserError, nearest
from lightning_modules.image_classification.architectures import NAMED, TORCHVISION, settings_of
from lightning_modules.image_classification.block_network import output_layer

log = logging.getLogger("tenfold")

_RELEASE = "https://github.com/zju-vipa/NetGraft/releases/download/v1.0"
NETGRAFT = {
    num_classes: RemoteFile(f"weights/{name}", f"{_RELEASE}/{name}")
    for num_classes, name in {
        10: "vgg16-blockwise-cifar10.pth",
        100: "vgg16-blockwise-cifar100.pth",
    }.items()
}
"""By number of classes."""

_OLD_NAMES = (
    # torchvision's files of DenseNet and of the vision transformer are older than its present names
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(\.encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(\.encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
_AUXILIARY = re.compile(r"(AuxLogits|aux1|aux2)\.")
"""Second outputs of Inception and GoogLeNet, of use in their training alone; the files have them."""

_NAME = re.compile(r"netgraft|DEFAULT|IMAGENET1K_\w+", re.IGNORECASE)
"""Published names, which no file of the working folder takes the place of."""
_LARGEST = 8 << 30  # bytes; torchvision's largest is 2.5 GB

_FOLDER = "weights"
_KEY = "model.weights"


def load_published(
    network: nn.Module, weights: str, spec: NetworkSpec, num_classes: int, root: str, cache: str
) -> bool:
    """Puts published weights into ``network``.

    Args:
        network: of ``spec``.
        weights: see the head of this file.
        spec: ``model.network``, which says what torchvision calls it.
        num_classes: of the data.
        root: folder of data sets, looked into first.
        cache: where downloads go when ``root`` is read-only.

    Returns:
        Whether the last layer got its weights as well; it does not where the file knows other classes.

    Raises:
        UserError: there are no such weights for this network, the file cannot be had, is not the published
            one, holds more than plain data, or does not fit.
    """
    path = Path(weights).expanduser()
    is_name = weights == "netgraft" or not ("/" in weights or path.suffix)
    if not is_name or (not _NAME.fullmatch(weights) and _is_file(path)):
        return _put(network, _read(_content(path, weights), path), str(path))
    if weights == "netgraft":
        if settings_of(spec) != NAMED["vgg16"] or num_classes not in NETGRAFT:
            raise UserError(
                f"{_KEY}=netgraft is a vgg16 of 10 or of 100 classes. Set model.network=vgg16, with"
                " data=cifar10 or data=cifar100."
            )
        file = NETGRAFT[num_classes]
    else:
        file = _of_torchvision(weights, spec)
    path = fetch(_KEY, [file], root, cache, stand_in=None)[0]
    return _put(network, _read(read_verified(_KEY, file, root, cache), path), str(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _content(path: Path, weights: str) -> bytes:
    if not _is_file(path):
        raise UserError(f"{_KEY}={weights}: there is no such file. Name one that holds a state dict.")
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{_KEY}={weights} is larger than any file of weights, {_LARGEST >> 30} GiB.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{_KEY}={weights} cannot be read: {error.strerror}.") from error


def _of_torchvision(weights: str, spec: NetworkSpec) -> RemoteFile:
    from torchvision import models

    name = _torchvision_name(spec)
    if name is None:
        raise UserError(
            f"{_KEY}={weights}: none are published for this network. Set model.network=resnet18, resnet34 or"
            f" {TORCHVISION}<name>, or name a file: model.weights=<path>."
        )
    names = list(models.get_model_weights(name).__members__)
    if weights not in names:
        raise UserError(
            f"{_KEY} must be one of {', '.join(names)} for {name}, got {weights!r}."
            f"{nearest(weights.upper(), names)}"
        )
    url: str = models.get_model_weights(name)[weights].url
    name = url.rpartition("/")[2]
    first_digits = Path(name).stem.rpartition("-")[2]
    return RemoteFile(f"{_FOLDER}/{name}", url, _Beginnings([first_digits]))


def _torchvision_name(spec: NetworkSpec) -> str | None:
    settings = settings_of(spec)
    name = str(settings.get("name"))
    if name.startswith(TORCHVISION):
        return name.removeprefix(TORCHVISION)
    return next((one for one in ("resnet18", "resnet34") if NAMED[one] == settings), None)


class _Beginnings(tuple[str, ...]):
    """Hashes of which the first digits alone are published: one is among them that begins with any."""

    __slots__ = ()

    def __contains__(self, found: object) -> bool:
        return any(str(found).startswith(one) for one in self)


def _read(content: bytes, path: Path) -> dict[str, Tensor]:
    log.info(f"weights of {path}, SHA-256 {hashlib.sha256(content).hexdigest()}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sparse tensors; what matters is raised
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader lets anything out, from IndexError to struct.error
        why = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
        raise UserError(
            f"{_KEY}: {path} is no file of weights, or holds more than plain data, which could run code"
            f" ({why.rstrip('.')}). There is no unsafe fallback: save its state_dict alone where you trust"
            " it."
        ) from error
    for inner in ("state_dict", "model"):  # as other programs wrap it
        if isinstance(found, Mapping) and isinstance(found.get(inner), Mapping):
            found = found[inner]
    if (
        not isinstance(found, Mapping)
        or not found
        or not all(isinstance(value, Tensor) for value in found.values())
    ):
        raise UserError(f"{_KEY}: {path} holds no state dict, a tensor for each name.")
    for name, value in found.items():
        if (flaw := _flaw(value)) is not None:
            raise UserError(
                f"{_KEY}: {path} is of no use: {name} {flaw}. Name the file of a trained network."
            )
    return {str(name): value for name, value in found.items()}


def _flaw(value: Tensor) -> str | None:
    """Why a tensor is no weight; None if it may be one."""
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        return "is no plain dense tensor"
    if not (value.is_floating_point() or value.dtype == torch.int64):  # the latter counts batches
        return f"is of type {str(value.dtype).removeprefix('torch.')}"
    return None if value.isfinite().all() else "holds NaN or infinity"


def _put(network: nn.Module, found: dict[str, Tensor], where: str) -> bool:
    prefix = "network." if hasattr(network, "network") else ""
    own = network.state_dict()
    renamed = OrderedDict((prefix + _present_name(name), value) for name, value in found.items())
    head = output_layer(network)
    heads = {
        name
        for name, parameter in network.named_parameters()
        if parameter is head.weight or parameter is head.bias
    }
    other_classes = any(
        name in renamed and name in own and renamed[name].shape != own[name].shape for name in heads
    )
    if other_classes:
        for name in heads:
            renamed[name] = own[name]
    counts = "num_batches_tracked"  # files of old versions of torch have none
    renamed.update(
        (name, value) for name, value in own.items() if name.endswith(counts) and name not in renamed
    )
    for name in [one for one in renamed if one not in own and _AUXILIARY.match(one.removeprefix(prefix))]:
        del renamed[name]
    wrong = [name for name in own if name not in renamed or renamed[name].shape != own[name].shape]
    wrong += [name for name in renamed if name not in own and not name.endswith(counts)]
    if wrong:
        first = wrong[0]
        shapes = ", ".join(
            f"{list(one[first].shape)} {place}" if first in one else f"none {place}"
            for one, place in ((renamed, "in the file"), (own, "in the network"))
        )
        raise UserError(
            f"{_KEY}: {where} is of another network: {first.removeprefix(prefix)} has {shapes}"
            f" ({len(wrong)} names differ). Set model.network to the one that it was saved from."
        )
    loaded = OrderedDict((name, renamed[name]) for name in own)
    # else torchvision's MNASNet takes them for those of an older version, and changes its layers
    loaded._metadata = own._metadata  # type: ignore[attr-defined]
    network.load_state_dict(loaded)
    return not other_classes


def _present_name(name: str) -> str:
    """What a parameter of a published file or of a checkpoint of ours is called in the network."""
    while name.startswith("network."):  # of our own classifiers
        name = name.removeprefix("network.")
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return name
