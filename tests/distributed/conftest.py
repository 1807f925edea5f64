import pytest


@pytest.fixture(scope="module")
def ranks(request, tmp_path_factory):
    """Tells what a scenario of this test file returned on ranks 0, 1, ...: `ranks(scenario, size)`."""
    from support.ranks import run_all

    outcomes = run_all(request.module.__name__, tmp_path_factory.mktemp("ranks"))
    return lambda scenario, size: outcomes[scenario, size]
