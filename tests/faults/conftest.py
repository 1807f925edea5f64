"""A fixed choice of the faults in every run of the tests, all of them with `pytest -m faults`."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the first case of every test that is not marked slow."""
    seen: set[tuple[str, str]] = set()
    left_out = []
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker("faults")
        test = (str(item.path), getattr(item, "originalname", item.name))
        if test in seen or item.get_closest_marker("slow"):
            left_out.append(item)
        seen.add(test)
    named = any("::" in argument for argument in config.args)  # a test that is asked for by name
    if "faults" not in config.option.markexpr and not config.option.keyword and not named:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
