"""Questions about tables: the grammar's counts, how questions are drawn, answers against brute force."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch

from gradnoise.paper.neural_programmer import TASKS
from gradnoise.paper.neural_programmer.problems.brute_force import Lookup, answer
from gradnoise.paper.neural_programmer.problems.examples import held_out, training
from gradnoise.paper.neural_programmer.problems.grammar import CATEGORIES, templates
from gradnoise.paper.neural_programmer.problems.questions import all_questions, all_templates, read
from gradnoise.paper.neural_programmer.problems.tasks import CELL_WORDS

SYNONYMS = {"sum": 4, "count": 3, "greater": 6, "lesser": 5, "print": 3, "diff": 2}


@pytest.mark.parametrize(("columns", "count"), [(1, 23), (2, 109), (3, 307), (5, 1231), (10, 8861)])
def test_numbers_of_templates_are_the_papers(columns, count):
    found = templates("", "ABCDEFGHIJ"[:columns])
    assert len(found) == len({t.tokens for t in found}) == count


def test_the_single_column_names_no_column():
    found = [" ".join(t.tokens) for t in all_templates(TASKS["single"])]
    assert len(set(found)) == 23
    assert found[:3] == ["sum", "count", "print"] and found[-2:] == ["sum diff count", "count diff sum"]
    assert "greater # or lesser # print" in found and "lesser # and greater # sum" in found
    assert not any("greater" in q[8:] and q.startswith("greater") for q in found)
    counts = Counter(t.category for t in all_templates(TASKS["single"]))
    assert counts == {"simple": 3, "comparison": 6, "logic": 12, "difference": 2}


def test_word_variability_has_the_papers_count():
    found = sum(np.prod([SYNONYMS.get(w, 1) for w in t.tokens]) for t in all_templates(TASKS["single"]))
    assert found == 1368


def test_text_templates():
    full = all_templates(TASKS["text"])
    assert Counter(t.category for t in full) == {"simple": 4, "comparison": 48, "logic": 1136, "difference": 2}
    assert len(all_templates(TASKS["text"], word_word=False)) == 390
    printed = [t for t in full if not any(x.kind == "print" and x.column == "A" for x in t.targets)]
    assert len(printed) == 893
    assert ("word:3", "A", "sum", "B") in {t.tokens for t in full}


def test_numbers_leave_the_question():
    task = TASKS["five"]
    found = read(task, [["greater", "#", "C", "and", "lesser", "#", "E", "sum", "A"], ["count"]])
    words = [task.vocabulary[i] for i in found.tokens[0]]
    assert words == ["greater", "C", "and", "lesser", "E", "sum", "A"]
    assert (
        found.left.tolist() == [[0, 3], [0, 0]] and found.given.tolist() == [2, 0] and found.length.tolist() == [7, 1]
    )
    assert task.vocabulary[found.tokens[1, 1]] == "<pad>"


@pytest.mark.parametrize("name", TASKS)
def test_no_question_is_too_long(name):
    task = TASKS[name]
    found = all_questions(task)
    assert found.length.max() == task.longest and found.length.min() >= 1
    assert len({tuple(row) for row in found.tokens.tolist()}) == len(all_templates(task))


# --- examples -----------------------------------------------------------------------------------------


def written(task, example) -> tuple[list[str], dict[str, list]]:
    """An example as a person would write it: tokens with numbers, columns with cells."""
    numbers = iter(example.numbers.tolist())
    tokens = [str(Fraction(next(numbers), 100)) if w == "#" else w
              for w in all_templates(task)[example.template].tokens]  # fmt: skip
    m, table = int(example.rows), {}
    for i, letter in enumerate(task.columns):
        if example.present[i]:
            k = i - len(task.text)
            table[letter] = (
                [CELL_WORDS[w] for w in example.words[i, :m]]
                if k < 0
                else [Fraction(x, 100) for x in example.cells[k, :m].tolist()]
            )
    return tokens, table


@pytest.mark.parametrize("empty_pairs", [True, False])
@pytest.mark.parametrize("name", TASKS)
def test_answers_are_those_of_brute_force(name, empty_pairs):
    task = TASKS[name]
    examples = training(task, 3400, seed=5, empty_pairs=empty_pairs)
    for i in range(len(examples.rows)):
        one = type(examples)(*(x[i] for x in examples))
        tokens, table = written(task, one)
        found = answer(tokens, table)
        if isinstance(found, Lookup):
            rows = one.selected.nonzero().flatten().tolist()
            assert one.lookup and rows == list(found.rows) and task.columns[one.column] == found.column
        else:
            assert not one.lookup and int(one.scalar) == found * 100 and not one.selected.any(), " ".join(tokens)


@pytest.mark.parametrize("name", TASKS)
def test_pairs_of_comparisons_that_no_row_meets(name):
    """Half of them with one column (a number lies above another); with two, those that are far out."""
    task = TASKS[name]
    pairs = [t.connective == "and" and all(c.kind != "word" for c in t.conditions) for t in all_templates(task)]
    drawn = [training(task, 20_000, 3, empty_pairs=empty) for empty in (True, False)]
    shares = []
    for examples in (*drawn, *(held_out(task, "test", 3, 0, empty_pairs=empty)[0] for empty in (True, False))):
        asked = torch.tensor(pairs)[examples.template] & examples.lookup
        shares.append((~examples.selected[asked].any(1)).double().mean().item())
    assert shares[0] > 0.1 and shares[2] > 0.1 and shares[1] == shares[3] == 0
    if not task.lettered:
        assert shares[0] == pytest.approx(0.5, abs=0.1)
    free, met = drawn
    for x in ("template", "present", "rows", "cells", "words"):
        assert torch.equal(getattr(free, x), getattr(met, x))
    others = ~torch.tensor(pairs)[free.template]
    assert torch.equal(free.numbers[others], met.numbers[others]) and others.any()


@pytest.mark.parametrize("name", TASKS)
def test_training_tables_are_as_the_paper_says(name):
    task = TASKS[name]
    examples = training(task, 20_000, seed=0)
    assert examples.rows.min() == 30 and examples.rows.max() == 100
    assert examples.cells.abs().max() == 10_000 and 9900 < examples.numbers.abs().max() <= 10_000
    columns = examples.present.sum(1)
    assert columns.min() == task.fewest and columns.max() == len(task.columns)
    real = torch.arange(100) < examples.rows[:, None]
    assert not (examples.cells * ~real[:, None]).any() and not (examples.selected & ~real).any()
    assert not (examples.cells * ~examples.present[:, len(task.text) :, None]).any()
    known = all_templates(task)
    assert all(known[t].columns <= {c for c, p in zip(task.columns, row, strict=True) if p}
               for t, row in zip(examples.template.tolist(), examples.present.tolist(), strict=True))  # fmt: skip
    drawn = Counter(known[t].category for t in examples.template.tolist())
    for category in CATEGORIES:  # 20,000 / 4, five standard deviations of sqrt(20,000 x 3 / 16) = 61
        assert abs(drawn[category] - 5000) < 306


def test_lookups_and_answers_of_the_single_column():
    examples = training(TASKS["single"], 20_000, seed=0)
    assert examples.lookup.double().mean().item() == pytest.approx(0.25, abs=0.015)
    size = examples.scalar[~examples.lookup].abs().double().mean().item() / 100
    assert size == pytest.approx(344, rel=0.05)


@pytest.mark.parametrize("name", TASKS)
def test_tests_ask_every_question_on_tables_of_their_own(name):
    task = TASKS[name]
    chunks = held_out(task, "test", 3, seed=0)
    count = len(all_templates(task))
    asked = torch.cat([c.template for c in chunks])
    assert torch.equal(asked.view(3, count), torch.arange(count).expand(3, count))
    assert all((c.rows == 120).all() and c.present.all() for c in chunks)
    assert max(c.cells.abs().max() for c in chunks) > 19_000
    other = held_out(task, "valid", 3, seed=0)
    assert not torch.equal(chunks[0].cells, other[0].cells)
    again = held_out.__wrapped__(task, "test", 3, seed=0)
    assert all(torch.equal(x, y) for a, b in zip(chunks, again, strict=True) for x, y in zip(a, b, strict=True))


def test_share_of_test_templates_that_training_sees():
    """Five columns: 60 to 100 % in the paper's tables with 10 to 3; with random letters of 1 to 5 nearly all."""
    examples = training(TASKS["five"], 50_000, seed=0)
    assert len(examples.template.unique()) / 1231 > 0.95
