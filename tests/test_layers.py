"""The house as its floor plan says it: imports point one way and in no circle, and no room grows too large."""

import ast
import functools
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "gradnoise"
BASE = ("directions", "errors", "files", "given", "terminal")
#: Floor -> the packages of ours that it may import, itself included.
FLOORS = {
    "errors": (),
    "files": (),
    "given": (),
    "directions": (),
    "reporting": (),
    "terminal": (),
    "noise": ("noise",),
    "integrations": ("noise", "integrations"),
    "data": (*BASE, "data"),
    "population": (*BASE, "noise", "population"),
    "study": (*BASE, "reporting", "noise", "population", "study"),
    "dose": (*BASE, "noise", "population", "study", "dose"),
    "paper": (*BASE, "noise", "data", "population", "study", "paper"),
}
ASKED = (
    "directions",
    "errors",
    "files",
    "given",
    "study.canonical",
    "study.spec",
    "study.trial",
    "study.engine",
    "study.description",
)
#: Room -> what it may import of ours beside itself. In the lab what is asked, kept and told knows not
#: what trains.
ROOMS = {
    "noise.gaussian": (),
    "noise.warning": (),
    "noise.schedule": ("noise.until", "noise.warning"),
    "noise.gradients": ("noise.gaussian",),
    "noise.steps": ("noise.warning",),
    "noise.doubts": (
        "noise.dosing",
        "noise.gradients",
        "noise.schedule",
        "noise.steps",
        "noise.streams",
        "noise.until",
        "noise.warning",
    ),
    "study.canonical": ("errors", "given"),
    "study.spec": ASKED,
    "study.engine": ASKED,
    "study.results": ASKED,
    "study.store": (
        *ASKED,
        "study.tables",
        "study.results",
        "study.provenance",
        "study.codec",
        "study.columns",
        "study.database",
        "study.damage",
    ),
    "study.database": ("errors", "files", "study.damage", "study.tables"),
    "study.damage": ("errors",),
    "study.columns": ("errors", "given", "study.canonical"),
    "study.analysis": (*ASKED, "study.results", "study.analysis"),
    "study.report": (*ASKED, "terminal", "study.results", "study.analysis", "study.report"),
}
MOST_LINES, MOST_IN_A_FUNCTION = 350, 45


def modules(room: str = "") -> list[Path]:
    place = SOURCE.joinpath(*room.split(".")) if room else SOURCE
    return sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> list[tuple[str, list[str]]]:
    """(module, names) of every import of ours in a file, also inside functions."""
    package = list(path.relative_to(SOURCE.parent).with_suffix("").parts[:-1])
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module or ""]))
            found.append((module, [alias.name for alias in node.names]))
    return [(module, names) for module, names in found if module.split(".")[0] == "gradnoise"]


def imported(path: Path) -> set[str]:
    """Modules that a file imports; a name that is itself a module counts as that module."""
    known = {name_of(p) for p in modules()}
    found = set()
    for module, names in imports(path):
        within = {f"{module}.{name}" for name in names} & known
        found |= within if within and len(within) == len(names) else within | {module}
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_only_those_below_it(floor):
    paths = modules(floor)
    assert all(path.exists() for path in paths) and paths
    for path in paths:
        for module, names in imports(path):
            used = module.split(".")[1:2] or ["noise"] * len(names)  # the package itself has the noise core's names
            assert set(used) <= set(FLOORS[floor]), f"{path.name} imports {module} {names}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    for path in modules(room):
        for module in imported(path):
            short = module.removeprefix("gradnoise.")
            allowed = [*ROOMS[room], room]
            assert any(short == a or short.startswith(a + ".") for a in allowed), f"{path.name} imports {module}"


def test_there_is_no_circle_of_imports():
    graph = {name_of(path): imported(path) - {name_of(path)} for path in modules() if path.name != "__init__.py"}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module in graph and module not in done:
            for other in graph[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def public(package: str) -> set[str]:
    """The names in the `__all__` of a package."""
    path = SOURCE.parent.joinpath(*package.split("."), "__init__.py")
    assert path.exists(), f"{package} is no package"
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{package} has no __all__")


def test_the_systems_use_public_names_only():
    for path in modules("paper"):
        for module, names in imports(path):
            if module.startswith("gradnoise.paper") or module.split(".")[1:] in (["errors"], ["files"]):
                continue
            if (SOURCE.parent.joinpath(*module.split(".")) / "__init__.py").exists():
                hidden = set(names) - public(module)
                assert not hidden, f"{path.name} imports {sorted(hidden)}, which {module} does not list"
            else:
                package, _, name = module.rpartition(".")
                assert name in public(package), f"{path.name} imports {module}; import the names from {package}"


def test_no_module_is_shadowed_by_a_name_of_its_package():
    for path in modules():
        if path.name == "__init__.py":
            inside = {p.stem for p in path.parent.iterdir() if p.suffix == ".py"} | {
                p.name for p in path.parent.iterdir() if (p / "__init__.py").exists()
            }
            bound = {name for module, names in imports(path) for name in names if not module.endswith(f".{name}")
                     or f"{name_of(path)}.{name}" == module}  # fmt: skip
            taken = {n for n in bound & inside if f"{name_of(path)}" not in {m for m, ns in imports(path) if n in ns}}
            assert not taken, f"{name_of(path)} binds {sorted(taken)} over its modules"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_file_and_no_function_is_too_long(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MOST_LINES, f"{len(lines)} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            length = (node.end_lineno or 0) - first.lineno + 1
            assert length <= MOST_IN_A_FUNCTION, f"{node.name} has {length} lines"


def test_the_check_sees_a_wrong_import():
    # the checks above read files with `imports`: it must find what it is meant to find
    file = SOURCE / "study" / "run" / "population_engine.py"
    assert "gradnoise.population" in {module for module, _ in imports(file)}
