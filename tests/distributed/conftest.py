import pytest


@pytest.fixture(scope="module")
def ranks(request, tmp_path_factory):
    """Return a function `ranks(scenario, size)` that runs a scenario of this file; its results on ranks 0, 1, ..."""
    from support.ranks import run_all

    outcomes = run_all(request.module.__name__, tmp_path_factory.mktemp("ranks"))
    return lambda scenario, size: outcomes[scenario, size]
