"""Asking a Neural Programmer: what is read, what is refused, what is shown."""

from fractions import Fraction

import pytest
import torch
from rich.console import Console
from support.commandline import gradnoise

from gradnoise.paper import load_system
from gradnoise.paper.neural_programmer import TASKS, NeuralProgrammer
from gradnoise.paper.neural_programmer.problems.brute_force import Lookup
from gradnoise.paper.neural_programmer.problems.checks import check_columns, question_of, table_of
from gradnoise.paper.neural_programmer.watch.ask import Ask, random_table, read_csv
from gradnoise.paper.neural_programmer.watch.trace import trace
from gradnoise.population import PopulationError
from gradnoise.study import Options, StudyError, run_study

CSV = "A,C\n1.5,10\n-2,20\n7,30\n"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(CSV)
    return path


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "example 3, the question is empty"),
        ("greter 5 A count", "unknown word 'greter'.*did you mean 'greater'"),
        ("5 greater A count", "begins with a number"),
        ("greater 1 A and lesser 2 A or greater 3 A count", "3 numbers; at most 2"),
        ("greater inf A count", "'inf' is no finite number"),
        ("greater nan A count", "no finite number"),
        ("word:3 A count", "unknown word 'word:3'"),
        ("sum A and sum A and sum A diff", "9 words; questions of this task have at most 7"),
        ("<pad>", "unknown word '<pad>'"),
    ],
)
def test_questions_that_are_none_are_refused(question, message):
    with pytest.raises(PopulationError, match=message):
        question_of(TASKS["five"], question, example=3)


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ("five", [("F", ["1"])], "example 3, table: no column 'F'"),
        ("five", [("A", ["1"]), ("A", ["2"])], "two columns are called 'A'"),
        ("five", [("A", ["1"]), ("B", ["2", "3"])], "rows per column are {'A': 1, 'B': 2}"),
        ("five", [("A", [])], "at least one"),
        ("five", [], "0 column.s.; tables of this task have at least 1"),
        ("five", [("A", ["1", "x"])], "column A, row 2: 'x' is no number"),
        ("five", [("A", ["inf"])], "'inf' is no finite number"),
        ("text", [("A", ["word:1"])], "1 column.s.; tables of this task have at least 2"),
        ("text", [("A", ["word:12"]), ("B", ["1"])], "'word:12' is none of .*did you mean"),
        ("text", [("A", ["word:1"]), ("B", ["word:1"])], "column B, row 1: 'word:1' is no number"),
    ],
)
def test_tables_that_are_none_are_refused(task, columns, message):
    with pytest.raises(PopulationError, match=message):
        table_of(TASKS[task], columns, example=3)


def test_a_question_about_a_column_that_is_not_there_is_refused():
    task = TASKS["five"]
    found = table_of(task, [("C", ["1"]), ("A", ["2"])])
    assert list(found) == ["A", "C"]
    with pytest.raises(PopulationError, match="the question names column B; the table has A, C"):
        check_columns(task, question_of(task, "sum B"), found)


@pytest.mark.parametrize(
    ("text", "message"), [("", "the file is empty"), ("A,C\n1\n", "line 2 has 1 cells; the first has 2")]
)
def test_files_that_are_no_tables_are_refused(tmp_path, text, message):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(StudyError, match=message):
        read_csv(TASKS["five"], path)
    with pytest.raises(StudyError, match=r"nowhere.csv"):
        read_csv(TASKS["five"], tmp_path / "nowhere.csv")


# --- programs written by hand -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("greater 0 A sum C", "answer    40   right"),
        ("greater 0 A and lesser 15 C print A", "answer    column A, rows 1   right"),
        ("greater 100 A print C", "answer    column C, no row   right"),
        ("count diff sum C", "answer    -57   right"),
    ],
)
def test_programs_written_by_hand_answer(table, capsys, question, said):
    assert gradnoise("neural-programmer", "ask", question, "--oracle", "five", "--table", str(table)) == 0
    out = capsys.readouterr().out
    assert said in out and "step 4" in out and "●" in out


def test_a_question_that_the_grammar_does_not_have(table):
    console = Console(quiet=True)
    with pytest.raises(StudyError, match=r"the grammar of the task 'five' has no question 'sum A count'"):
        Ask("sum A count", table=table, oracle="five")(console)
    with pytest.raises(StudyError, match=r"no task 'fife'.*did you mean 'five'"):
        Ask("sum A", table=table, oracle="fife")(console)
    with pytest.raises(StudyError, match="text_match"):
        Ask("word:3 A count", oracle="text")(console)


# --- networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_a_network_shows_what_the_exam_grades(name):
    """The steps end in the answer that the brute force of the same table can judge."""
    torch.manual_seed(1)
    model = NeuralProgrammer(TASKS[name], 8).eval()
    question = {"single": "greater 3 count", "five": "greater 3 B count", "text": "word:2 A print B"}[name]
    asked, table = question_of(model.task, question), random_table(model.task, 0)
    found = trace(model, asked, table)
    assert len(found.steps) == 4 and all(0 < s.sure <= 1 and len(s.rows) == 10 for s in found.steps)
    if name == "text":
        wanted = tuple(i for i, word in enumerate(table["A"]) if word == "word:2")
        assert found.truth == Lookup("B", wanted)
    else:
        column = "A" if name == "single" else "B"
        assert found.truth == sum(Fraction(x) > 3 for x in table[column])
    assert found.right in (True, False)


def test_a_run_of_a_study_is_asked(tmp_path, capsys):
    study = load_system("neural-programmer").study("smoke", seeds=1, rows=["single"])
    run_study(study, tmp_path / "study", options=Options(workers=1))
    for _ in range(2):  # trained, then from the cache
        assert gradnoise("neural-programmer", "ask", "greater 3 sum", "--folder", "study", "--arm", "noise") == 0
        out = capsys.readouterr().out
        assert "row single, noise, seed 0, 12 updates; it answers" in out and "question  greater 3 sum" in out
    assert gradnoise("neural-programmer", "ask", "sum", "--folder", "study", "--row", "five") == 1
    assert "no such finished run; its rows are single" in capsys.readouterr().err
