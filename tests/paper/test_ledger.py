"""The ledger is the whole paper: no statement is missing, each is judged by the rules, and the README says the same."""

import dataclasses
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pandas
import pytest
from rich.console import Console

from gradnoise.paper import SYSTEMS, load_system
from gradnoise.paper.contrast import ALONE
from gradnoise.paper.ledger import (
    STATEMENTS,
    Check,
    Direction,
    Size,
    State,
    committed_results,
    make_ledger,
    print_ledger,
    statement_of,
    tally,
    write_page,
)
from gradnoise.paper.ledger import evidence as evidence_module
from gradnoise.paper.ledger.book import judged, state_of
from gradnoise.paper.ledger.everything import loss, never, overall, rarely
from gradnoise.paper.ledger.statements import TITLES
from gradnoise.study import StudyError
from gradnoise.study.analysis import Outcome

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
#: Every statement of the paper, by section; a list of its own, so that none can be lost without notice.
WHOLE_PAPER = {
    "abstract": "abstract-loss 1-rarely",
    "4.1": "T1.1 T1.1-dropout T1.2 T1.3 T1.4 T1.5 T1.6 4.1-five 4.1-baseline 4.1-clip 4.1-tuned 4.1-slow 4.1-eta",
    "4.2": "T2.1-train T2.1-val T2.2-train T2.2-val 4.2-never 4.2-warm 4.2-most 4.2-eta",
    "4.3": "4.3-single 4.3-seeds 4.3-dropout T3.five T3.text T3.five-dropout T3.text-dropout 4.3-relative F2",
    "4.4": "T4.1 T4.2 T4.3 T4.average 4.4-order",
    "4.5": "T5.1 T5.2 T5.3 T5.5",
    "4.6": "4.6-fixed-memn2n 4.6-fixed-np 4.6-fixed-nram 4.6-batch-nram 4.6-batch-np 4.6-weight-nram 4.6-weight-np"
    " 4.6-ptb 4.6-ptb-plain",
}


@pytest.fixture(scope="module")
def ledger():
    return make_ledger(RESULTS)


def entry(ledger, id):
    return next(e for e in ledger.entries if e.statement.id == id)


# --- completeness ---------------------------------------------------------------------------------------


def test_no_statement_is_missing():
    found = {section: " ".join(s.id for s in STATEMENTS if s.section == section) for section in TITLES}
    assert found == WHOLE_PAPER and len(STATEMENTS) == 50


def test_ids_are_unique_and_tests_of_a_statement_are_of_its_system():
    assert set(Counter(s.id for s in STATEMENTS).values()) == {1}
    about = {s.id: s.system for s in STATEMENTS}
    for name in SYSTEMS:
        system = load_system(name)
        for item in (*system.claims, *system.contrasts):
            assert about[statement_of(item.id)] == name, item.id
    with pytest.raises(
        StudyError, match=r"claim 'T1.11/joint' belongs to no statement of the paper: .*did you mean 'T1.1'"
    ):
        statement_of("T1.11/joint")


def test_every_statement_of_a_system_that_is_here_can_be_judged_or_says_why_not():
    tested = {statement_of(i.id) for name in SYSTEMS for s in [load_system(name)] for i in (*s.claims, *s.contrasts)}
    for statement in STATEMENTS:
        if statement.system in SYSTEMS:
            assert (statement.id in tested) != bool(statement.waits), statement.id
        else:
            assert bool(statement.waits) == bool(statement.system), statement.id


@pytest.mark.parametrize("name", SYSTEMS)
def test_contrasts_have_their_rows_and_arms(name):
    system = load_system(name)
    data = {"deep-mlp": "digits", "memn2n": "generated", "lstm-lm": "generated"}.get(name, "auto")
    run = set()
    for study, scales in system.studies.items():
        made = system.study("paper", data, study=study) if "paper" in scales else None
        for setting in made.settings if made else ():
            arms = [a.name for a in made.arms if setting.arms is None or a.name in setting.arms]
            run |= {(setting.row, arm, label) for arm in arms for label in (None, setting.label)}
    for contrast in system.contrasts:
        assert bool(contrast.baseline) == (contrast.expects not in ALONE)
        for cell in (*contrast.baseline, *contrast.treatment):
            assert (cell.row, cell.arm, cell.setting) in run, contrast.id
            assert cell.less is None or (cell.row, cell.less, cell.setting) in run, contrast.id


# --- rules ----------------------------------------------------------------------------------------------


def check(id: str, direction: Direction, size: Size = Size.NONE) -> Check:
    return Check(id, "folder", direction, size, "ours", "", 10)


AGREES, CONTRADICTS, UNDECIDED, UNTESTABLE = Direction


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([AGREES, AGREES], AGREES),
        ([AGREES, UNDECIDED], UNDECIDED),
        ([AGREES, CONTRADICTS, UNDECIDED], CONTRADICTS),
        ([AGREES, UNTESTABLE], UNTESTABLE),
        ([], None),
    ],
)
def test_all_parts_must_hold(parts, expected):
    assert judged([check(f"x/{i}", d) for i, d in enumerate(parts)])[0] is expected


@pytest.mark.parametrize(
    ("joint", "tasks", "expected"),
    [
        (AGREES, AGREES, AGREES),
        (CONTRADICTS, CONTRADICTS, CONTRADICTS),
        (AGREES, CONTRADICTS, UNDECIDED),
        (UNDECIDED, CONTRADICTS, UNDECIDED),
    ],
)
def test_readings_must_agree(joint, tasks, expected):
    made = [check("x/joint/a", joint), check("x/tasks/a", tasks)]
    assert judged(made, ("joint", "tasks"))[0] is expected


def test_one_missed_size_is_enough():
    for sizes, expected in (
        ((Size.HELD, Size.NONE), Size.HELD),
        ((Size.HELD, Size.MISSED), Size.MISSED),
        ((Size.NONE, Size.NONE), Size.NONE),
    ):
        assert judged([check(f"x/{i}", AGREES, size) for i, size in enumerate(sizes)])[1] is expected


def test_states_follow_from_direction_and_size():
    assert [state_of(AGREES, size) for size in Size] == [State.REPRODUCED, State.DIRECTION, State.REPRODUCED]
    assert {state_of(CONTRADICTS, size) for size in Size} == {State.NOT_REPRODUCED}
    assert {state_of(UNDECIDED, size) for size in Size} == {State.UNDECIDED}
    assert state_of(UNTESTABLE, Size.NONE) is State.UNTESTABLE and state_of(None, Size.NONE) is State.NOT_RUN


def test_statements_about_all_rows():
    helps, hurts, same, open_ = Outcome.HELPS, Outcome.HURTS, Outcome.NO_DIFFERENCE, Outcome.UNDECIDED
    assert loss(Counter({helps: 1, hurts: 9})) is AGREES
    assert loss(Counter({open_: 1, same: 3})) is UNDECIDED and loss(Counter({same: 3})) is CONTRADICTS
    assert never(Counter({helps: 4})) is AGREES
    assert never(Counter({helps: 4, open_: 1})) is UNDECIDED
    assert never(Counter({helps: 4, same: 1})) is never(Counter({hurts: 1})) is CONTRADICTS
    assert rarely(Counter({hurts: 1, same: 9, helps: 7})) is AGREES
    assert rarely(Counter({hurts: 2, same: 8})) is CONTRADICTS
    assert rarely(Counter({hurts: 1, same: 8, open_: 1})) is UNDECIDED  # the open one may hurt, too
    assert rarely(Counter({hurts: 0, same: 9, open_: 1})) is AGREES and rarely(Counter({helps: 1})) is AGREES


def test_runs_that_lie_in_two_folders_count_once():
    """The same study twice, once with fewer of its seeds."""
    (item,) = (e for e in evidence_module.gather(RESULTS / "memn2n" / "joint").evidence)
    half = dataclasses.replace(item.results, trials=tuple(t for t in item.results.trials if t.seed < 7))
    less = evidence_module.Evidence("half", item.system, half)
    alone, together, reversed_ = (list(overall(each)) for each in ([item], [item, less], [less, item]))
    assert alone and [c.ours for c in alone] == [c.ours for c in together] == [c.ours for c in reversed_]
    other = dataclasses.replace(half, trials=tuple(dataclasses.replace(t, id=t.id[::-1]) for t in half.trials))
    twice = list(overall([item, evidence_module.Evidence("other", item.system, other)]))
    assert [c.ours for c in twice] != [c.ours for c in alone]


# --- what is committed ----------------------------------------------------------------------------------


def test_entries_are_the_statements_and_checks_lie_under_theirs(ledger):
    assert [e.statement for e in ledger.entries] == list(STATEMENTS)
    for e in ledger.entries:
        assert all(statement_of(c.id) == e.statement.id and c.runs > 0 for c in e.checks)
        assert bool(e.checks) == (e.state is not State.NOT_RUN) and bool(e.why) == (
            e.state in (State.NOT_RUN, State.UNTESTABLE)
        )
        assert all(1 <= number <= len(ledger.departures) for number in e.departures)
        assert e.departures or not e.checks, e.statement.id


def test_what_our_data_contradict_is_said(ledger):
    # pixels / 255 against the statement, raw pixels for it: which of them the paper had nobody knows
    baseline = entry(ledger, "4.1-baseline")
    parts = {c.id: c.direction for c in baseline.checks}
    assert (
        parts["4.1-baseline/clip-10"] is Direction.CONTRADICTS and parts["4.1-baseline/raw/clip-10"] is Direction.AGREES
    )
    assert baseline.state is State.UNDECIDED
    assert entry(ledger, "4.2-never").state is State.NOT_REPRODUCED
    assert entry(ledger, "T1.1-dropout").state is State.UNTESTABLE
    warm = entry(ledger, "4.2-warm")
    assert warm.state is State.DIRECTION and len(warm.checks) == 4


def test_figures_are_those_of_the_tables(ledger):
    table = pandas.read_csv(RESULTS / "deep_mlp" / "summary.csv", dtype={"row": str}).set_index(["row", "arm"])
    for row in "123456":
        (made,) = entry(ledger, f"T1.{row}").checks[:1]
        noise = table.loc[row, "noise"]
        assert f"mean {table.loc[row, 'none']['mean']:.1f} → {noise['mean']:.1f}" in made.ours
        assert f"{noise['difference']:+.1f}" in made.ours and made.runs == 2 * noise["done"]
    pooled = pandas.read_csv(RESULTS / "nram" / "lists" / "trials.csv").query("arm == 'none' or arm == 'eta-1.0'")
    solved = pooled[pooled["row"].isin(["A", "B"])].groupby("arm")["success"].sum()
    weak = (
        pandas.read_csv(RESULTS / "nram" / "lists" / "trials.csv").query("row == 'C'").groupby("arm")["success"].sum()
    )
    (average,) = entry(ledger, "T4.average").checks
    without, noisy = (100 * (solved[a] + weak[b]) / 300 for a, b in (("none", "none"), ("eta-1.0", "eta-0.01")))
    assert average.ours.startswith(f"{without:.1f} → {noisy:.1f}, ")


def test_the_readme_counts_as_the_ledger_does(ledger):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{len(ledger.entries)} statements: {tally(ledger.entries)}" in " ".join(text.split())
    for name in SYSTEMS:
        assert f"statements: {tally(ledger.of(name))}" in text, f"README, {name}: say {tally(ledger.of(name))!r}"
    everywhere = f"statements about all systems: {tally(ledger.of(''))}"
    assert everywhere in " ".join(text.split()), f"README: say {everywhere!r}"


def test_a_folder_appears_by_itself(tmp_path):
    target = tmp_path / "somewhere" / "new"
    target.mkdir(parents=True)
    for name in ("study.json", "trials.csv"):
        shutil.copy(RESULTS / "nram" / "lists" / name, target)
    made = make_ledger(tmp_path)
    assert entry(made, "T4.1").rests_on == {"somewhere/new": 200}
    assert entry(made, "T1.1").state is State.NOT_RUN and entry(made, "T1.1").why == "Its runs have not been made."


def test_of_two_folders_with_the_same_row_the_larger_counts(tmp_path):
    for name, runs in (("a", 40), ("b", 385)):
        (tmp_path / name).mkdir()
        shutil.copy(RESULTS / "nram" / "lists" / "study.json", tmp_path / name)
        lines = (RESULTS / "nram" / "lists" / "trials.csv").read_text().splitlines()[:runs]
        (tmp_path / name / "trials.csv").write_text("\n".join(lines) + "\n")
    assert entry(make_ledger(tmp_path), "T4.1").rests_on == {"b": 64}


def test_folders_that_do_not_count_are_named(ledger, tmp_path):
    assert ("deep_mlp_quick", "quick scale") in ledger.left_out
    for name, damage in (("stand-in", ('"stand_in": false', '"stand_in": true')),
                         ("own", ('"system": "nram"', '"system": "mine"'))):  # fmt: skip
        (tmp_path / name).mkdir()
        text = (RESULTS / "nram" / "lists" / "study.json").read_text(encoding="utf-8")
        assert damage[0] in text
        (tmp_path / name / "study.json").write_text(text.replace(*damage), encoding="utf-8")
        shutil.copy(RESULTS / "nram" / "lists" / "trials.csv", tmp_path / name)
    reasons = dict(make_ledger(tmp_path).left_out)
    assert reasons["stand-in"].startswith("on stand-in data") and "another model" in reasons["own"]
    (tmp_path / "own" / "study.json").unlink()
    with pytest.raises(StudyError, match=r"own has no study.json; write its tables again with `gradnoise report`"):
        make_ledger(tmp_path)
    with pytest.raises(StudyError, match="nowhere is no folder; name the one that holds result folders"):
        make_ledger(tmp_path / "nowhere")


def test_results_are_found_here_in_a_checkout_or_in_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "gradnoise"
    (package / "paper" / "ledger").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence_module, "__file__", str(package / "paper" / "ledger" / "evidence.py"))
    with pytest.raises(StudyError, match="no results folder here and none came with the package; name one"):
        committed_results()
    (package / "_results").mkdir()
    assert committed_results() == package / "_results"
    (tmp_path / "results").mkdir()
    assert committed_results().resolve() == (tmp_path / "results").resolve()


# --- what a person sees ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("terminal", "width"), [(False, 100), (True, 100), (False, 60)])
def test_it_is_read_in_a_hundred_columns_and_coloured_on_terminals_alone(ledger, terminal, width):
    system = "standard" if terminal else "auto"
    console = Console(file=StringIO(), width=width, force_terminal=terminal, color_system=system, highlight=False)
    print_ledger(ledger, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("\x1b[" in text) == terminal
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= width
    assert all(s.id in plain for s in STATEMENTS)
    last = f"{len(STATEMENTS)} statements: {tally(ledger.entries)}."
    assert " ".join(plain.split()).endswith(last)


class Page(HTMLParser):
    """What a page holds: ids, links and badges, and whether all elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.links, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[name] for name in ("href", "src") if name in values]
        self.open += [] if tag in ("meta", "br") else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(ledger, tmp_path):
    write_page(ledger, tmp_path / "a" / "page.html", RESULTS)
    text = (tmp_path / "a" / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and set(Counter(page.ids).values()) == {1}
    assert {s.id for s in STATEMENTS} <= set(page.ids) and "<script" not in text and "@import" not in text
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (tmp_path / "a" / link).resolve().is_file(), link
    states = Counter(e.state for e in ledger.entries)
    for state, count in states.items():  # once in the head, once beside each statement
        assert text.count(f"</span> {state.value}</span>") == count + 1


def test_links_lead_to_the_repository_where_reports_did_not_come_along(tmp_path):
    (tmp_path / "results" / "nram").mkdir(parents=True)
    for name in ("study.json", "trials.csv"):
        shutil.copy(RESULTS / "nram" / "lists" / name, tmp_path / "results" / "nram")
    write_page(make_ledger(tmp_path / "results"), tmp_path / "page.html", tmp_path / "results")
    links = [x for x in Page((tmp_path / "page.html").read_text(encoding="utf-8")).links if not x.startswith("#")]
    assert set(links) == {"https://github.com/gradnoise/gradnoise/tree/main/results/nram"}
