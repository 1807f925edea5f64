"""Analysis and report know a study by its results alone: neither torch, nor the engine, nor how it was run."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

from gradnoise.study import analysis, report

FOLDERS = {
    "analysis": (
        "gradnoise.directions",
        "gradnoise.errors",
        "gradnoise.study.description",
        "gradnoise.study.results",
        "gradnoise.study.spec",
        "gradnoise.study.analysis",
    ),
    "report": (
        "gradnoise.errors",
        "gradnoise.files",
        "gradnoise.study.canonical",
        "gradnoise.study.results",
        "gradnoise.study.spec",
        "gradnoise.study.analysis",
        "gradnoise.study.report",
        "gradnoise.terminal",
    ),
}
OTHERS = {"analysis": {"numpy", "scipy"}, "report": {"numpy", "matplotlib", "jinja2", "rich"}}
STANDARD = {
    "__future__", "bisect", "collections", "contextlib", "csv", "dataclasses", "enum", "functools", "gzip", "html",
    "importlib", "io", "itertools", "json", "math", "os", "pathlib", "re", "textwrap", "typing", "urllib",
}  # fmt: skip


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("package", [analysis, report], ids=list(FOLDERS))
def test_imports_of_a_folder(package):
    name = package.__name__.rpartition(".")[2]
    paths = sorted(Path(package.__file__).parent.rglob("*.py"))
    assert len(paths) > 10
    for path in paths:
        for module in imported(path):
            ours = module.startswith(FOLDERS[name])
            assert ours or module.split(".")[0] in STANDARD | OTHERS[name], f"{path.name} imports {module}"


@pytest.mark.parametrize("package", [analysis, report, analysis.statistics], ids=["analysis", "report", "statistics"])
def test_no_name_of_a_package_hides_a_module_in_it(package):
    for module in pkgutil.iter_modules(package.__path__):
        full = f"{package.__name__}.{module.name}"
        there = importlib.import_module(full)
        assert getattr(package, module.name, None) is there


@pytest.mark.parametrize("package", [analysis, report, analysis.statistics], ids=["analysis", "report", "statistics"])
def test_the_public_names_are_there_and_documented(package):
    for name in package.__all__:
        value = getattr(package, name)
        assert not inspect.ismodule(value)
        assert value.__doc__ or not callable(value), name


def test_the_systems_of_the_paper_use_public_names_only():
    public = {package.__name__: set(package.__all__) for package in (analysis, report)}
    found = 0
    for path in sorted((Path(analysis.__file__).parents[2] / "paper").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(tuple(public)):
                names = {alias.name for alias in node.names}
                assert names <= public.get(node.module or "", set()), f"{path.name} imports {names} of {node.module}"
                found += 1
    assert found
