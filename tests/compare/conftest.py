from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder that is no git repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def page():
    """Have the page of a comparison written, for tests that look at it: that takes longer than all else."""


@pytest.fixture(autouse=True)
def no_page(request, monkeypatch):
    """Write no page, unless a test looks at it."""
    if "page" in request.fixturenames:
        return

    def write(results, folder, *_, **__) -> Path:
        path = Path(folder) / "report.html"
        path.touch()
        return path

    for module in ("gradnoise.study.console", "gradnoise.study.script.live"):
        monkeypatch.setattr(f"{module}.write_report", write)
