"""Published weights: hashed before they are opened, read as plain data, and put where they belong."""

import hashlib
import logging
import os
import pickle
import re
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from callbacks.savepoints import Savepoints
from datamodules import download
from datamodules.download import RemoteFile
from harness.annotations import NetworkSpec
from harness.errors import UserError
from harness.savepoints import read_savepoint
from lightning_modules.image_classification import published_weights
from lightning_modules.image_classification.block_network import output_layer
from lightning_modules.image_classification.build import build_network
from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.image_classification.published_weights import NETGRAFT, load_published
from tests.command_lines import Output, child, command, run_folder
from tests.harness.test_resume import KeepingSavepoints, run_in
from tests.small_runs import assert_same_weights, fit

SMALL = "torchvision/mobilenet_v3_small"


class Server(ThreadingHTTPServer):
    """Serves one file, and counts how often it was asked for it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """In the place of what publishes weights: every file is asked of this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()

    def fetch(name: str, files: list[RemoteFile], root: str, cache: str, stand_in: str | None) -> list[Path]:
        here = f"http://127.0.0.1:{server.server_port}/"
        moved = [RemoteFile(one.path, here + one.url.rpartition("/")[2], one.sha256) for one in files]
        return download.fetch(name, moved, root, cache, allow_loopback_http=True, stand_in=stand_in)

    monkeypatch.setattr(published_weights, "fetch", fetch)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def network(spec: NetworkSpec, num_classes: int = 10, seed: int = 0, image_size: int = 32) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(spec, 3, image_size, num_classes)


def saved(path: Path, content: Any) -> str:
    torch.save(content, path)
    return str(path)


def load(made: nn.Module, weights: str, spec: NetworkSpec, folder: Path, num_classes: int = 10) -> bool:
    return load_published(made, weights, spec, num_classes, str(folder / "data"), str(folder / "cache"))


def in_its_place(spec: str, weights: str, content: bytes, folder: Path) -> Path:
    """The file of one of torchvision's weights where a data folder holds it, whatever it contains."""
    name = models.get_model_weights(spec.removeprefix("torchvision/"))[weights].url.rpartition("/")[2]
    path = folder / "data" / "weights" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_names_of_torchvision_s_files_end_with_the_digits_of_their_hash() -> None:
    for name in models.list_models(module=models):
        for one in models.get_model_weights(name):
            stem = one.url.rpartition("/")[2].removesuffix(".pth")
            assert re.fullmatch(r"[0-9a-f]{8,}", stem.rpartition("-")[2]), one.url


class _Weights(dict[str, Any]):
    """In the place of an enumeration of torchvision's weights."""

    def __init__(self, url: str) -> None:
        super().__init__(IMAGENET1K_V1=types.SimpleNamespace(url=url))
        self.__members__ = self


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A file as torchvision's would be, with 1,000 classes, and its address with the hash of its content."""
    made: Any = models.get_model("mobilenet_v3_small", weights=None)
    path = tmp_path / "published.pth"
    torch.save(made.state_dict(), path)
    content = path.read_bytes()
    url = f"https://data.example/mobilenet-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setattr(models, "get_model_weights", lambda _: _Weights(url))
    return content


def test_torchvision_s_weights_are_fetched_once_and_put_in(
    server: Server, published: bytes, tmp_path: Path
) -> None:
    server.content = published
    made = network(SMALL, num_classes=1000)
    assert load(made, "IMAGENET1K_V1", SMALL, tmp_path, num_classes=1000)
    expected = torch.load(tmp_path / "published.pth", weights_only=True)
    assert_same_weights({f"network.{name}": value for name, value in expected.items()}, made.state_dict())
    assert load(made, "IMAGENET1K_V1", SMALL, tmp_path, num_classes=1000)
    assert len(server.asked) == 1


def test_a_server_that_sends_something_else_is_not_believed(
    server: Server, published: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = published[:-1] + b"!"
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(
        UserError, match=r"^model\.weights: .* SHA-256 expected [0-9a-f]{8}, found [0-9a-f]{64}"
    ):
        load(network(SMALL), "IMAGENET1K_V1", SMALL, tmp_path)
    # nothing is left that would have to be deleted by hand, and no hash of it is recorded
    assert not list((tmp_path / "data").rglob("*.pth"))
    assert not list((tmp_path / "cache").rglob("*.sha256"))


def test_a_file_of_another_hash_is_never_opened_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_its_place(SMALL, "IMAGENET1K_V1", b"something else", tmp_path)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(UserError, match=r"altered or truncated.*was not opened\. Delete it") as caught:
        load(network(SMALL), "IMAGENET1K_V1", SMALL, tmp_path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"something else"


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "evil.pth"
    if how == "torch":
        torch.save({"weight": Evil(tmp_path / "mark")}, path)
    else:
        path.write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    with pytest.raises(UserError, match=r"could run code.*There is no unsafe fallback") as caught:
        load(network("vgg_small"), str(path), "vgg_small", tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


def _changed(value: Tensor, how: str) -> Tensor:
    match how:
        case "sparse":
            return value.flatten(1).to_sparse()
        case "bool":
            return value.bool()
        case "complex":
            return value.to(torch.complex64)
        case "NaN":
            return torch.full_like(value, torch.nan)
    return value.to(torch.int8)


@pytest.mark.parametrize("how", ["sparse", "bool", "complex", "NaN", "int8"])
def test_tensors_that_are_no_weights_are_refused(tmp_path: Path, how: str) -> None:
    made = network("vgg_small")
    state = dict(made.state_dict())
    name = next(iter(state))
    state[name] = _changed(state[name], how)
    with pytest.raises(UserError, match=rf"is of no use: {re.escape(name)} (is|holds)") as caught:
        load(made, saved(tmp_path / "odd.pth", state), "vgg_small", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_too_large_or_with_an_impossible_name_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.pth"
    with path.open("wb") as file:
        file.truncate(60 << 30)  # takes no place on the disk
    with pytest.raises(UserError, match="larger than any file of weights"):
        load(network("vgg_small"), str(path), "vgg_small", tmp_path)
    with pytest.raises(UserError, match="there is no such file"):
        load(network("vgg_small"), f"{'a' * 300}.pth", "vgg_small", tmp_path)


def test_no_file_of_the_working_folder_takes_the_place_of_a_published_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("netgraft", "IMAGENET1K_V1"):
        saved(tmp_path / name, network("vgg_small").state_dict())
        with pytest.raises(UserError, match=r"is a vgg16 of 10|none are published for this network"):
            load(network("vgg_small"), name, "vgg_small", tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"PK\3\4nothing", bytes(range(256))])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "none.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"is no file of weights"):
        load(network("vgg_small"), str(path), "vgg_small", tmp_path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, torch.zeros(3)])
def test_plain_data_that_are_no_state_dict_are_refused(tmp_path: Path, content: Any) -> None:
    path = saved(tmp_path / "other.pth", content)
    with pytest.raises(UserError, match=r"holds no state dict"):
        load(network("vgg_small"), path, "vgg_small", tmp_path)


def test_a_file_of_another_network_is_refused_by_the_first_name_that_differs(tmp_path: Path) -> None:
    path = saved(tmp_path / "other.pth", network("vgg_small_half").state_dict())
    made = network("vgg_small")
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load(made, path, "vgg_small", tmp_path)
    assert str(caught.value) == (
        f"model.weights: {path} is of another network: features.3.0.weight has [48, 48, 3, 3] in the file,"
        " [96, 48, 3, 3] in the network (15 names differ). Set model.network to the one that it was saved"
        " from."
    )
    assert_same_weights(before, made.state_dict())
    with pytest.raises(
        UserError, match=r"conv1\.weight has none in the file, \[16, 3, 3, 3\] in the network"
    ):
        load(network("resnet_small"), path, "resnet_small", tmp_path)


@pytest.mark.parametrize("spec", ["vgg_small", "resnet_small", SMALL, "torchvision/squeezenet1_1"])
def test_a_file_of_other_classes_leaves_the_last_layer_as_it_was_drawn(tmp_path: Path, spec: str) -> None:
    theirs, ours = network(spec, num_classes=7, seed=1), network(spec, num_classes=10)
    path = saved(tmp_path / "seven.pth", theirs.state_dict())
    head = output_layer(ours)
    assert head.bias is not None
    drawn = head.weight.clone(), head.bias.clone()
    assert not load(ours, path, spec, tmp_path)
    assert torch.equal(head.weight, drawn[0])
    assert torch.equal(head.bias, drawn[1])
    own = {id(head.weight), id(head.bias)}
    expected = theirs.state_dict()
    for name, parameter in ours.named_parameters():
        assert id(parameter) in own or torch.equal(parameter, expected[name]), name


@pytest.mark.parametrize("wrapped", ["state_dict", "model", None])
def test_files_of_other_programs_and_of_old_versions_are_read(tmp_path: Path, wrapped: str | None) -> None:
    theirs, ours = network("resnet_small", seed=1), network("resnet_small")
    plain = {name: value for name, value in theirs.state_dict().items() if "num_batches" not in name}
    path = saved(tmp_path / "old.pth", {wrapped: plain, "epoch": 3} if wrapped else plain)
    assert load(ours, path, "resnet_small", tmp_path)
    assert_same_weights(ours.state_dict(), theirs.state_dict())


def theirs_named(network: nn.Module, old_names: list[tuple[str, str]]) -> dict[str, Tensor]:
    """A state dict under the names that torchvision's older files have."""
    found = {}
    for name, value in network.state_dict().items():
        name = name.removeprefix("network.")
        for new, old in old_names:
            name = re.sub(new, old, name)
        found[name] = value
    return found


@pytest.mark.parametrize(
    ("name", "size", "old_names"),
    [
        ("densenet121", 32, [(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2")]),
        ("vit_b_32", 224, [(r"mlp\.0", "mlp.linear_1"), (r"mlp\.3", "mlp.linear_2")]),
        ("mnasnet0_5", 32, []),  # without metadata its own reader would build the layers of an old version
        ("mobilenet_v3_small", 32, []),
    ],
)
def test_torchvision_s_files_fit_under_the_names_of_their_time(
    tmp_path: Path, name: str, size: int, old_names: list[tuple[str, str]]
) -> None:
    spec = f"torchvision/{name}"
    theirs, ours = network(spec, seed=1, image_size=size), network(spec, image_size=size)
    renamed = theirs_named(theirs, old_names)
    assert (renamed.keys() == {one.removeprefix("network.") for one in theirs.state_dict()}) == (
        not old_names
    )
    assert load(ours, saved(tmp_path / "file.pth", renamed), spec, tmp_path)
    assert_same_weights(ours.state_dict(), theirs.state_dict())


def test_second_outputs_in_a_file_are_left_out(tmp_path: Path) -> None:
    theirs: Any = models.get_model("googlenet", weights=None, num_classes=10, init_weights=False)
    assert any(name.startswith("aux1.") for name in theirs.state_dict())
    ours = network("torchvision/googlenet")
    assert load(ours, saved(tmp_path / "file.pth", theirs.state_dict()), "torchvision/googlenet", tmp_path)
    x = torch.randn(2, 3, 32, 32)
    theirs.transform_input = True  # as torchvision has it with its published weights
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_the_authors_teacher_is_read_under_their_names(server: Server, tmp_path: Path) -> None:
    theirs = network("vgg16", num_classes=100, seed=1)
    names = list(theirs.state_dict())
    assert {re.sub(r"\d+\.\d+", "b.l", name) for name in names if name.startswith("features")} == {
        "features.b.l.weight",
        "features.b.l.bias",
    }
    assert {name for name in names if not name.startswith("features")} == {
        *(f"classifier.{layer}.{kind}" for layer in (0, 1, 2) for kind in ("weight", "bias")),
        *(f"classifier.1.{kind}" for kind in ("running_mean", "running_var", "num_batches_tracked")),
    }
    server.content = Path(saved(tmp_path / "theirs.pth", theirs.state_dict())).read_bytes()
    ours = network("vgg16", num_classes=100)
    assert load(ours, "netgraft", "vgg16", tmp_path, num_classes=100)
    assert server.asked == ["/vgg16-blockwise-cifar100.pth"]
    assert_same_weights(ours.state_dict(), theirs.state_dict())
    # no hash of it is published: the one found first is what must be found again
    path = tmp_path / "data" / NETGRAFT[100].path
    torch.save(ours.state_dict() | {"x": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="is not the file that was used first"):
        load(ours, "netgraft", "vgg16", tmp_path, num_classes=100)


@pytest.mark.parametrize(
    ("weights", "spec", "num_classes", "says"),
    [
        (
            "IMAGENET1K_V9",
            SMALL,
            10,
            r"must be one of IMAGENET1K_V1, DEFAULT for .*Did you mean 'IMAGENET1K_V1'",
        ),
        (
            "imagenet1k_v1",
            "resnet18",
            10,
            r"for resnet18, got 'imagenet1k_v1'\. Did you mean 'IMAGENET1K_V1'",
        ),
        (
            "IMAGENET1K_V1",
            "vgg_small",
            10,
            r"none are published for this network\. Set model\.network=resnet18",
        ),
        ("netgraft", "vgg_small", 10, r"is a vgg16 of 10 or of 100 classes\. Set model\.network=vgg16"),
        ("netgraft", "vgg16", 7, r"is a vgg16 of 10 or of 100 classes"),
        ("no/such/file", "vgg_small", 10, r"model\.weights=no/such/file: there is no such file"),
        ("file.pth", "vgg_small", 10, r"model\.weights=file\.pth: there is no such file"),
        ("~/file.pth", "vgg_small", 10, r"there is no such file"),
    ],
)
def test_weights_that_are_not_there_are_told_with_what_is(
    tmp_path: Path, weights: str, spec: str, num_classes: int, says: str
) -> None:
    with pytest.raises(UserError, match=says) as caught:
        load(network(spec), weights, spec, tmp_path, num_classes)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_network")
def test_without_a_network_the_message_says_where_the_file_goes(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^model\.weights: weights/mobilenet_v3_small-047dcff4\.pth is neither"
    ):
        load(network(SMALL), "DEFAULT", SMALL, tmp_path)
    assert not list(tmp_path.iterdir())


DIGITS = ("model=classifier", "data=digits", "model.network.width=4", "data.batch_size=128")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fit(tmp_path_factory.mktemp("trained"), *DIGITS, "trainer.max_epochs=1")


def test_our_own_checkpoint_is_a_file_of_weights(trained: Any, tmp_path: Path) -> None:
    path = trained.folder / "checkpoints" / "best.ckpt"
    run = fit(tmp_path, *DIGITS, f"model.weights={path}", "model.fine_tune=false")
    assert_same_weights(run.weights, trained.weights)
    assert run.record.epochs == {"fit": 0}
    assert run.test() == trained.test()


def test_our_own_checkpoint_of_a_network_of_torchvision_is_one(tmp_path: Path) -> None:
    theirs = ImageClassifier(
        3, 32, 10, SMALL, None, True, "", "", 0.0, {"name": "Adam", "lr": 0.1}, None, "epoch"
    )
    path = saved(tmp_path / "best.ckpt", {"state_dict": theirs.state_dict(), "epoch": 1})
    ours = network(SMALL)
    assert load(ours, path, SMALL, tmp_path)
    assert_same_weights(ours.state_dict(), theirs.network.state_dict())


@pytest.mark.usefixtures("as_before")
def test_a_checkpoint_is_tested_and_predicts_without_the_file_it_began_with(
    trained: Any, tmp_path: Path, capsys: Output
) -> None:
    path = tmp_path / "start.pth"
    torch.save(trained.weights, path)
    words = (*DIGITS, f"model.weights={path}", "trainer.max_epochs=1", "~callbacks.pictures")
    done = child(*words, "hardware=cpu", "logger=none", "paths.runs=runs", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / run_folder(done.stdout)
    path.unlink()
    for mode in ("test", "predict"):
        assert command(tmp_path, *DIGITS[:2], f"mode={mode}", f"ckpt={folder}", "~callbacks.pictures") == 0
    assert command(tmp_path, *words) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_a_run_that_continues_does_not_ask_for_the_file_again(trained: Any, tmp_path: Path) -> None:
    path = tmp_path / "start.pth"
    torch.save(trained.weights, path)
    words = (*DIGITS, f"model.weights={path}", "trainer.max_epochs=2")
    run, _ = run_in(tmp_path / "run", KeepingSavepoints(tmp_path / "copies"), *words)
    path.unlink()
    for copy in sorted((tmp_path / "copies").iterdir()):
        savepoint = read_savepoint(copy / "checkpoints")
        assert savepoint is not None
        again, _ = run_in(copy, Savepoints(None), *words, savepoint=savepoint)
        assert_same_weights(again.module.state_dict(), run.module.state_dict())
    with pytest.raises(UserError, match="there is no such file"):
        run_in(tmp_path / "anew", Savepoints(None), *words)


def test_other_classes_are_told(trained: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = {name: value for name, value in trained.weights.items() if name.startswith("network.")}
    head = "network.classifier"
    other = weights | {f"{head}.weight": weights[f"{head}.weight"][:7], f"{head}.bias": torch.zeros(7)}
    path = saved(tmp_path / "seven.pth", other)
    with caplog.at_level(logging.WARNING, "tenfold"):
        fit(tmp_path / "run", *DIGITS, f"model.weights={path}", "trainer.max_epochs=1")
    assert "the last layer starts from weights drawn at random" in caplog.text
