"""Imports point one way, and the paper's systems use public names only."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "gradnoise"
BASE = ("errors", "files")
#: Floor -> the packages of ours that it may import, itself included.
ALLOWED = {
    "errors": (),
    "files": (),
    "noise": ("noise",),
    "integrations": ("noise", "integrations"),
    "data": (*BASE, "data"),
    "population": (*BASE, "noise", "population"),
    "study": (*BASE, "noise", "population", "study"),
    "paper": (*BASE, "noise", "data", "population", "study", "paper"),
}


def modules(floor: str) -> list[Path]:
    place = SOURCE / floor
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """(module, names) of every import of ours in a file, also inside functions."""
    package = list(path.relative_to(SOURCE.parent).with_suffix("").parts[:-1])
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            found.append((module, [alias.name for alias in node.names]))
    return [(module, names) for module, names in found if module.split(".")[0] == "gradnoise"]


@pytest.mark.parametrize("floor", ALLOWED)
def test_a_floor_imports_only_those_below_it(floor):
    paths = modules(floor)
    assert all(path.exists() for path in paths) and paths
    for path in paths:
        for module, names in imports(path):
            used = module.split(".")[1:2] or ["noise"] * len(names)  # the package itself has the noise core's names
            assert set(used) <= set(ALLOWED[floor]), f"{path.name} imports {module} {names}"


def test_the_systems_use_public_names_only():
    for path in modules("paper"):
        for module, names in imports(path):
            private = [n for n in [*module.split("."), *names] if n.startswith("_")]
            assert not private, f"{path.name} imports {private} of {module}"


def test_the_check_sees_a_wrong_import(tmp_path):
    # the checks above read files with `imports`: it must find what it is meant to find
    file = SOURCE / "study" / "run" / "population_engine.py"
    assert "gradnoise.population" in {module for module, _ in imports(file)}
