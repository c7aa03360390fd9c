"""The project's files tell the truth about each other."""

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONF = sorted((ROOT / "conf").rglob("*.yaml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("harness", "lightning_modules", "datamodules", "callbacks")


def choices(group: str) -> set[str]:
    return {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}


def table_rows(heading: str) -> set[str]:
    """Every `code` word in the first column of the tables under a heading of the README."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\|([^|]+)\|", section, flags=re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


# A published result explains itself.
EXPLAINED = {"_target_", "metric", "value", "source"}


def uncommented_keys(text: str) -> list[str]:
    """Keys with a value but no comment, neither on their line nor alone on the line above."""
    missing, above = [], False
    for line in text.splitlines():
        key = re.match(r"\s*([\w./@-]+):\s+[^#\s]", line)
        if key and key[1] not in EXPLAINED and not above and not re.search(r"\s#\s*\S", line):
            missing.append(key[1])
        above = line.lstrip().startswith("#")
    return missing


def tracked_texts() -> list[Path]:
    """The project's own text files; caches, environments and data sets are not its own."""
    places = [*PACKAGES, "benchmarks", "conf", "docs", "tests", ".ci"]
    files = [path for place in places for path in (ROOT / place).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    return [path for path in files if path.suffix not in {".png", ".pyc", ".npz", ".nbi", ".nbc"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1 # why\n", []),
        ("# why\na: 1\n", []),
        ("# why\na: 1\nb: 2\n", ["b"]),
        ("a: '#1'\n", ["a"]),
        ("a:\n  b: 2\n", ["b"]),
        ("a:\n  b: 2 # why\n", []),
        ("_target_: x.Y\n", []),
    ],
)
def test_a_key_without_comment_is_found(text, expected):
    assert uncommented_keys(text) == expected


@pytest.mark.parametrize("path", CONF, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_configuration_file_says_what_it_is_and_what_its_keys_mean(path):
    text = path.read_text(encoding="utf-8")
    header = re.match(r"(?:#.*\n)*", text)[0]
    assert re.search(r"^# (?!@package)", header, flags=re.MULTILINE), "no comment on the first line"
    assert uncommented_keys(text[len(header) :]) == []


def test_experiments_are_named_after_a_model_and_a_data_set():
    pairs = {f"{model}_{data}" for model in choices("model") for data in choices("data")}
    assert choices("experiment") <= pairs


def test_readme_lists_every_choice_and_no_other():
    assert table_rows("Methods") == choices("model")
    assert table_rows("Data sets") == choices("data")
    assert table_rows("Hardware") == choices("hardware")
    assert table_rows("Dashboards") == choices("logger")


def test_readme_has_the_place_that_results_are_written_into():
    assert README.count("<!-- results -->") == README.count("<!-- /results -->") == 1
    assert README.index("<!-- results -->") < README.index("<!-- /results -->")


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_make_help_lists_every_target():
    phony = set(re.search(r"^\.PHONY: (.+)$", MAKEFILE, flags=re.MULTILINE)[1].split())
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, flags=re.MULTILINE))
    explained = set(re.findall(r"^([a-z]+):.*## \S", MAKEFILE, flags=re.MULTILINE))
    assert phony == targets == explained


def test_constraints_are_exact_and_name_no_address():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==[^\s;:/@]+( ; [^:/@]+)?", line)] == []


def test_every_dependency_has_an_exact_version():
    project = PYPROJECT["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    exact = {
        re.match(r"[a-z0-9._-]+", line)[0]
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    assert {re.match(r"[a-z0-9._-]+", name)[0] for name in wanted} <= exact


def test_changelog_has_a_place_for_what_is_not_released_yet():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", changelog, flags=re.MULTILINE)[0] == "Unreleased"


def test_no_file_names_a_package_index():
    # In pieces, so that this file does not name them itself.
    hosts = re.compile("|".join([r"pypi\." + "org", "python" + "hosted", "npm" + "js", r"deb\." + "debian"]))
    named = [
        path for path in tracked_texts() if hosts.search(path.read_text(encoding="utf-8", errors="ignore"))
    ]
    assert named == []


def test_a_wheel_holds_every_package_and_every_configuration_file():
    setuptools = pytest.importorskip("setuptools")
    find = PYPROJECT["tool"]["setuptools"]["packages"]["find"]
    found = set(setuptools.find_namespace_packages(str(ROOT), include=find["include"]))
    folders = {path.parent for path in CONF}
    folders |= {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} <= found
    assert not [name for name in found if name.split(".")[0] in {"tests", "benchmarks"}]


@pytest.mark.slow
def test_importing_any_module_prints_and_writes_nothing(tmp_path):
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    )
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport run, " + ", ".join(modules)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
