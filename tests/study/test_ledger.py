"""The ledger puts published figures beside ours, from whatever result folders there are."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from gradnoise.study import Claim, StudyError, ledger
from gradnoise.study.ledger import committed_results, print_ledger

CLAIMS = {
    "system": (
        Claim("C1", "a", "Noise helps", "Paper, Table 1", "noise", "helps"),
        Claim("C2", "b", "Noise makes no difference", "Paper, Table 1", "noise", "no difference"),
    ),
    "other": (Claim("C3", "a", "Noise hurts", "Paper, Table 2", "noise", "hurts"),),
}
HEADER = "id,row,statement,source,status,reason,published_mean,our_mean,published_best,our_best"


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "system").mkdir(parents=True, exist_ok=True)
    (folder / "system" / "claims.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return folder


def ledger_of(folder: Path) -> list[str]:
    """The printed ledger, line by line."""
    console = Console(file=io.StringIO(), width=200, highlight=False)
    print_ledger(CLAIMS, folder, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.strip() for line in text.splitlines()]


def test_every_claim_is_listed_with_or_without_results(tmp_path):
    row = 'C1,a,Noise helps,"Paper, Table 1",reproduced,"+10.1, from 8 to 12",43.1 → 52.7,44.0 → 54.1,90 → 97,91 → 96'
    assert ledger_of(write(tmp_path, row)) == [
        "system",
        "C1  Noise helps  (Paper, Table 1)",
        "mean: 43.1 → 52.7 published, 44.0 → 54.1 ours",
        "reproduced",
        "+10.1, from 8 to 12",
        "C2  Noise makes no difference  (Paper, Table 1)",
        "not run",
        "other",
        "C3  Noise hurts  (Paper, Table 2)",
        "not run",
    ]


def test_figures_of_a_chosen_run_stand_where_there_is_no_mean(tmp_path):
    lines = ledger_of(write(tmp_path, "C1,a,Noise helps,s,undecided,why,,16.6 → 17.2,19.5 → 16.6,15.1 → 15.3"))
    assert "best: 19.5 → 16.6 published, 15.1 → 15.3 ours" in lines


def test_studies_of_one_system_may_have_a_folder_each(tmp_path):
    tables = {
        "joint": ("C1,a,s,p,reproduced,r,1,2,3,4", "C2,b,s,p,not tested,,,,,"),
        "tasks": ("C1,a,s,p,not tested,,,,,", "C2,b,s,p,undecided,q,1,2,3,4"),
    }
    for name, rows in tables.items():
        folder = tmp_path / "system" / name
        folder.mkdir(parents=True)
        (folder / "claims.csv").write_text("\n".join([HEADER, *rows, ""]), encoding="utf-8")
    lines = ledger_of(tmp_path)
    assert {"reproduced", "undecided"} <= set(lines) and "not tested" not in lines


def test_results_of_claims_that_are_not_known_are_left_out(tmp_path):
    assert "C9" not in str(ledger_of(write(tmp_path, "C9,a,s,p,reproduced,r,1,2,3,4")))


def test_a_table_without_its_columns(tmp_path):
    folder = write(tmp_path, "C1,reproduced", header="id,status")
    with pytest.raises(StudyError, match=r"claims.csv has no column 'reason'; write it again with `gradnoise report`"):
        ledger_of(folder)
    (folder / "system" / "claims.csv").write_bytes(b"")
    with pytest.raises(StudyError, match="has no column 'id'"):
        ledger_of(folder)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(StudyError, match="nowhere is no folder; name the one that holds result folders"):
        ledger_of(tmp_path / "nowhere")


def test_results_are_found_here_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    assert committed_results().resolve() == (tmp_path / "results").resolve()


def test_results_that_came_with_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "gradnoise"
    (package / "study").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ledger, "__file__", str(package / "study" / "ledger.py"))
    with pytest.raises(StudyError, match="no results folder here and none came with the package; name one"):
        committed_results()
    (package / "_results").mkdir()
    assert committed_results() == package / "_results"
