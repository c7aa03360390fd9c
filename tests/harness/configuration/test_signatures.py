"""Static reading of classes: own ones written here, and those of the installed libraries."""

import subprocess
import sys
from typing import Any, Literal

import pytest
import yaml

from harness.annotations import PositiveInt
from harness.configuration.help import CONF, groups
from harness.configuration.signatures import LIGHTNING_ROOTS, NotAClassError, read_class
from harness.configuration.static_modules import PROJECT_ROOT, UnknownNameError, locate
from harness.configuration.static_types import parameter_type
from harness.configuration.targets import KINDS, resolve_class
from harness.errors import UserError

FILES = {
    "__init__.py": "from .inner.nets import Net as Public\nfrom .stars import *\n",
    "stars.py": "class FromStar: ...\n",
    "inner/__init__.py": "",
    "inner/nets.py": '''
"""Toy classes."""
raise RuntimeError("read, never run")
import os
import typing as t
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pytorch_lightning as L
from pydantic import Field
from torch import Tensor

from harness.annotations import PositiveInt
from toy_signatures.base import Base, Shared

Pool = Literal["max", "mean"]


class Net(Base):
    task: ClassVar[str] = "node_classification"
    phases = ("one", "two")

    def __init__(
        self,
        heads: PositiveInt,
        pool: Pool = "max",
        rate: Annotated[float, Field(ge=0, lt=1)] = 0.5,
        shared: Shared | None = None,
        sizes: Sequence[int] = (1, 2),
        both: t.Optional[int] = None,
        late: "list[float]" = None,
        weight: float | Tensor = 1.0,
        odd: make_type() = 3,
        *,
        plain,
    ) -> None: ...


class Child(Net): ...


class Widened(Net):
    def __init__(self, extra: int, **kwargs) -> None: ...


class Open(os.PathLike):
    def __init__(self, a, *args, **kwargs) -> None: ...


class Module(L.LightningModule): ...


def function(): ...


value = 3
''',
    "base.py": """
from typing import Literal

Shared = Literal[1, 2]


class Base:
    tasks = ("a", "b")
    task = "overridden"
""",
    "broken.py": "def f(:\n",
    "circle.py": "from toy_signatures.circle import Round\n",
}


@pytest.fixture(autouse=True, scope="module")
def toy_package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("signatures")
    for name, text in FILES.items():
        file = root / "toy_signatures" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        yield


NETS = "toy_signatures.inner.nets"


def types_of(path: str) -> dict[str, Any]:
    return {name: parameter_type(parameter) for name, parameter in read_class(path).parameters.items()}


def test_reexport_leads_home() -> None:
    info = read_class("toy_signatures.Public")
    assert info.path == f"{NETS}.Net"
    assert info.module.file.name == "nets.py"
    assert read_class("toy_signatures.FromStar").path == "toy_signatures.stars.FromStar"


def test_required_arguments_are_those_without_default() -> None:
    parameters = read_class(f"{NETS}.Net").parameters
    assert [name for name, parameter in parameters.items() if parameter.required] == ["heads", "plain"]
    assert parameters["pool"].default == "max"
    assert parameters["sizes"].default == (1, 2)


def test_annotations_become_types_without_running_the_file() -> None:
    types = types_of(f"{NETS}.Net")
    assert types["heads"] == PositiveInt
    assert types["pool"] == Literal["max", "mean"]
    assert types["shared"] == Literal[1, 2] | None
    assert types["both"] == int | None
    assert types["late"] == list[float]
    assert types["weight"] is float  # a Tensor cannot be written in YAML
    assert types["odd"] is Any
    assert types["plain"] is Any


def test_attributes_are_read_and_inherited() -> None:
    attributes = read_class(f"{NETS}.Child").attributes
    assert attributes["task"] == "node_classification"
    assert attributes["tasks"] == ("a", "b")


def test_constructor_is_inherited_and_keywords_are_passed_on() -> None:
    assert "heads" in read_class(f"{NETS}.Child").parameters
    widened = read_class(f"{NETS}.Widened")
    assert {"extra", "heads"} <= set(widened.parameters)
    assert not widened.takes_any
    assert read_class(f"{NETS}.Open").takes_any


def test_lightning_ancestor_is_seen_through_an_alias() -> None:
    assert LIGHTNING_ROOTS["LightningModule"] in read_class(f"{NETS}.Module").ancestors


@pytest.mark.parametrize("path", [f"{NETS}.function", f"{NETS}.value", NETS])
def test_what_is_no_class_is_named(path: str) -> None:
    with pytest.raises(NotAClassError, match=r"function|value|module"):
        read_class(path)


@pytest.mark.parametrize(
    "path", [f"{NETS}.Absent", "no_such_package.X", f"{NETS}.os.system", "toy_signatures.circle.Round", ""]
)
def test_path_that_leads_nowhere_is_told(path: str) -> None:
    with pytest.raises(UnknownNameError):
        locate(path)


def test_file_that_does_not_parse_is_told_with_its_line() -> None:
    with pytest.raises(UserError, match=r"broken\.py, line 1"):
        read_class("toy_signatures.broken.X")


def test_installed_libraries_are_read_to_the_class_itself() -> None:
    adam = read_class("torch.optim.Adam")
    assert adam.path == "torch.optim.adam.Adam"
    assert types_of("torch.optim.Adam")["betas"] == tuple[float, float]
    assert types_of("pytorch_lightning.Trainer")["max_epochs"] == int | None
    assert read_class("pytorch_lightning.loggers.WandbLogger").takes_any


def test_reading_imports_no_heavy_package() -> None:
    code = (
        "import sys; from harness.configuration.signatures import read_class;"
        "read_class('pytorch_lightning.Trainer'); read_class('torch.optim.SGD');"
        "read_class('torch_geometric.nn.GATConv');"
        "print({'torch', 'pytorch_lightning', 'torch_geometric', 'pydantic'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("model", groups()["model"])
def test_attributes_of_every_method_are_those_that_python_finds(model: str) -> None:
    """Also where two base classes share a third one."""
    target = yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text())["_target_"]
    kind = resolve_class(target, KINDS["model"], "model")
    found = read_class(target).attributes
    names = (
        "task",
        "monitor",
        "prerequisites",
        "optional_prerequisites",
        "epoch_metrics",
        "validates_itself",
    )
    for name in names:
        assert found.get(name) == getattr(kind, name)
