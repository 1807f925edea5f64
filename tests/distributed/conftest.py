import pytest


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """Gives what a scenario returned on each rank of a group: `ranks(scenario, size)`."""
    from ranks import run_all

    outcomes = run_all(tmp_path_factory.mktemp("ranks"))
    return lambda scenario, size: outcomes[scenario, size]
