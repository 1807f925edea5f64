"""bAbI: parser, files, arrays, and the generated stand-in."""

import io
import os
import re
import tarfile

import numpy as np
import pytest

from gradnoise.data import DataError, DataNotFoundError
from gradnoise.data.babi import NIL, Question, Statement, encode, generate, load_babi, parse
from gradnoise.data.babi.files import ARCHIVE, INSIDE, file_names
from gradnoise.data.babi.generator import MAKERS

TEXT = b"1 Mary moved to the bathroom.\n2 Where is Mary? \tbathroom\t1\n1 John is out.\n2 Is John here?\tno\t1\n"

#: Task -> words (train and test), longest sentence, slots, answer classes in training, most frequent test answer's
#: error: counted on the published files.
FACTS = {
    1: (19, 6, 10, 6, 81.3), 2: (33, 6, 50, 6, 81.3), 3: (34, 7, 50, 6, 78.5), 4: (14, 7, 2, 6, 82.3),
    5: (39, 7, 50, 7, 81.1), 6: (35, 6, 26, 2, 49.7), 7: (43, 6, 34, 4, 51.2), 8: (45, 6, 46, 13, 66.4),
    9: (23, 7, 10, 2, 36.2), 10: (24, 9, 10, 3, 56.3), 11: (26, 8, 10, 6, 81.3), 12: (20, 8, 10, 6, 81.1),
    13: (26, 8, 10, 6, 81.7), 14: (25, 8, 14, 6, 82.3), 15: (17, 5, 8, 4, 65.9), 16: (17, 4, 9, 4, 74.3),
    17: (18, 11, 2, 2, 48.0), 18: (18, 9, 15, 2, 46.9), 19: (31, 10, 5, 12, 90.7), 20: (35, 7, 12, 7, 82.0),
}  # fmt: skip


REAL_DATA = os.environ.get("GRADNOISE_DATA")  # read before the tests cut themselves off from it


@pytest.fixture(scope="session")
def real():
    try:
        return load_babi("babi")
    except DataNotFoundError:
        pytest.skip("the bAbI files are not here")


def test_the_parser_reads_statements_questions_and_stories():
    first, second = parse(TEXT, "file")
    assert first == (
        Statement(1, ("mary", "moved", "to", "the", "bathroom")),
        Question(2, ("where", "is", "mary"), "bathroom", (1,)),
    )
    assert [line.id for line in second] == [1, 2]


def test_answers_keep_their_commas_and_lose_their_capitals():
    (story,) = parse(b"1 Mary got the milk.\n2 What is Mary carrying? \tMilk,Apple\t1 \n", "file")
    assert story[1] == Question(2, ("what", "is", "mary", "carrying"), "milk,apple", (1,))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"Mary moved.", "does not start with an integer id"),
        (b"3 Mary moved.", "line id 3, where 1 or 2 is expected"),
        (b"2 Where is Mary? \tbathroom", "2 fields between tabs"),
        (b"2 Where is Mary? \t\t1", "the answer is empty"),
        (b"2 ?\tbathroom\t1", "not a question"),
        (b"2 Where is Mary\tbathroom\t1", "not a question"),
        (b"2 Mary moved?", "not a statement"),
        (b"2 Mary moved", "not a statement"),
        (b"2 Where is Mary? \tbathroom\t2", "supporting id 2"),
        (b"2 Where is Mary? \tbathroom\tx", "not integers"),
        (b"1 Where is Mary? \tbathroom\t1", "before any statement"),
        ("2 Zoë moved.".encode(), "ASCII"),
        (b"2 Mary\0 moved.", "ASCII"),
    ],
)
def test_a_malformed_line_is_named(line, expected):
    with pytest.raises(DataError, match=r"^some file, line 2: ") as error:
        parse(b"1 Mary moved to the bathroom.\n" + line + b"\n", "some file")
    assert expected in str(error.value)


def test_a_file_starts_with_line_one_and_is_not_empty():
    with pytest.raises(DataError, match="line 1: line id 2, where 1 is expected"):
        parse(b"2 Mary moved.\n", "file")
    with pytest.raises(DataError, match="is empty"):
        parse(b"\n", "file")


def test_carriage_returns_are_dropped_with_a_warning():
    with pytest.warns(UserWarning, match="carriage returns"):
        assert parse(TEXT.replace(b"\n", b"\r\n"), "file") == parse(TEXT, "file")


@pytest.mark.parametrize("task", FACTS)
def test_facts_of_the_published_files(real, task):
    data = encode(real, [task])
    words, longest, slots, classes, error = FACTS[task]
    train, test = real.tasks[task].train, real.tasks[task].test
    answers = {line.answer for story in train for line in story if isinstance(line, Question)}
    assert (len(data.words) - 1, data.sentences.shape[1], data.slots, len(answers)) == (words, longest, slots, classes)
    assert (len(data.train), len(data.validation), len(data.test)) == (900, 100, 1000)
    assert 100 - np.bincount(data.test.answer).max() / 10 == pytest.approx(error)
    assert sum(isinstance(line, Question) for story in test for line in story) == 1000


def test_facts_of_all_tasks_together(real):
    data = encode(real, range(1, 21))
    assert (len(data.words) - 1, data.sentences.shape[1], data.slots) == (174, 11, 50)
    assert (len(data.train), len(data.validation), len(data.test)) == (18_000, 2000, 20_000)
    assert np.bincount(np.concatenate([data.train.task, data.validation.task]))[1:].tolist() == [1000] * 20
    assert np.bincount(data.validation.task)[1:].min() > 75  # shuffled: every task is validated
    again = encode(real, range(1, 21))
    assert (again.validation.question == data.validation.question).all()


def test_memories_are_the_last_statements_oldest_first_without_questions(tmp_path):
    told = "".join(f"{i} Mary moved to place{i}.\n" for i in range(1, 6))
    text = (told + "6 Where is Mary?\tplace5\t5\n7 Mary left.\n8 Where is Mary?\tplace5\t5\n").encode()
    stories = parse(text, "file")
    task = type("T", (), {"train": stories * 10, "test": stories})
    data = encode(type("D", (), {"tasks": {1: task}, "title": "toy"})(), [1])
    assert data.slots == 6 and data.words[NIL] == "nil"

    def told_before(row):
        return [" ".join(data.words[w] for w in data.sentences[s] if w) for s in data.train.story[row] if s]

    assert told_before(0) == [f"mary moved to place{i}" for i in range(1, 6)]
    assert told_before(1) == [f"mary moved to place{i}" for i in range(1, 6)] + ["mary left"]
    assert data.train.n[:2].tolist() == [5, 6]


def test_stories_longer_than_the_memory_lose_their_beginning(real):
    data = encode(real, [3])
    assert data.slots == 50 and (data.train.n == 50).sum() > 100
    full = real.tasks[3].train
    story = next(s for s in full if sum(isinstance(x, Statement) for x in s) > 60)
    told = [x.words for x in story if isinstance(x, Statement)]
    newest = data.sentences[data.train.story[:, 49], 0]
    row = max(i for i in range(len(data.train)) if data.words[newest[i]] == told[-1][0])
    assert (data.train.story[row] != NIL).all()


# --- files -----------------------------------------------------------------------------------------


def _alone(monkeypatch, folder):
    monkeypatch.setenv("GRADNOISE_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "no cache"))


def test_without_files_auto_generates_and_by_name_says_how_to_get_them(monkeypatch, tmp_path):
    _alone(monkeypatch, tmp_path)
    assert load_babi("auto").is_stand_in
    with pytest.raises(DataNotFoundError, match=re.escape(ARCHIVE)):
        load_babi("babi")
    with pytest.raises(DataError, match="did you mean 'generated'"):
        load_babi("generate")


def test_a_changed_file_is_an_error_for_auto_too(monkeypatch, tmp_path):
    _alone(monkeypatch, tmp_path)
    (tmp_path / "babi" / "en").mkdir(parents=True)
    (tmp_path / "babi" / "en" / file_names(1)[0]).write_bytes(TEXT)
    with pytest.raises(DataError, match="does not have the checksum"):
        load_babi("auto")


def test_the_archive_is_read_and_a_member_outside_of_it_refused(monkeypatch, tmp_path, real):
    source = f"{REAL_DATA}/babi/en"
    if not os.path.isdir(source):
        pytest.skip("the bAbI folder is not here")
    _alone(monkeypatch, tmp_path)
    with tarfile.open(tmp_path / ARCHIVE, "w:gz", compresslevel=1) as archive:
        archive.add(source, INSIDE)
    assert load_babi("babi").fingerprint == real.fingerprint
    evil = tmp_path / "evil"
    evil.mkdir()
    _alone(monkeypatch, evil)
    with tarfile.open(evil / ARCHIVE, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    with pytest.raises(DataError, match="outside its folder"):
        load_babi("babi")


# --- generated stories -----------------------------------------------------------------------------


def _solve(task: int, story, question: Question) -> str:
    """Answer a question by replaying the statements before it."""
    told = [line.words for line in story if isinstance(line, Statement) and line.id < question.id]
    return SOLVERS[task](told, question.words)


def _places(told):
    moves = {w[0]: w[-1] for w in told if w[-2:-1] == ("the",) and w[-1] in PLACES}
    return moves


PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
GOT, LEFT = ("got", "grabbed", "took", "picked"), ("dropped", "discarded", "left", "put")


def _thing(told, question):
    thing, place, holder = question[-1], None, None
    at = {}
    for w in told:
        if w[-1] in PLACES:
            at[w[0]] = w[-1]
        elif thing in w and w[1] in GOT:
            holder = w[0]
        elif thing in w and w[1] in LEFT:
            holder, place = None, at.get(w[0])
    return at[holder] if holder else place


def _gift(told, question):
    gifts = [(w[0], w[3], w[5]) for w in told if w[1] in ("gave", "passed", "handed")]
    words = [w for w in question if w not in ("the", "to", "did", "give", "gave")]
    if words[0] == "what":
        return next(o for p, o, r in reversed(gifts) if (p, r) == tuple(words[1:]))
    if words[:2] == ["who", "received"]:
        return next(r for p, o, r in reversed(gifts) if o == words[2])
    if question[1] == "did":
        return next(r for p, o, r in reversed(gifts) if (p, o) == tuple(words[1:]))
    return next(p for p, o, r in reversed(gifts) if o == words[1] and (len(words) < 3 or r == words[2]))


def _fear(told, question):
    kind = next(w[-1] for w in told if w[0] == question[2] and w[1] == "is")
    singular = {"mice": "mouse", "sheep": "sheep", "wolves": "wolf", "cats": "cat"}
    return next(singular[w[-1]] for w in told if w[1] == "are" and singular[w[0]] == kind)


SOLVERS = {
    1: lambda told, q: _places(told)[q[-1]],
    2: _thing,
    5: _gift,
    6: lambda told, q: "yes" if _places(told)[q[1]] == q[-1] else "no",
    15: _fear,
}


@pytest.mark.parametrize("task", MAKERS)
def test_a_solver_answers_every_generated_question_also_from_its_support(task):
    for payload in generate(task):
        questions = 0
        for story in parse(payload, "generated"):
            for line in story:
                if isinstance(line, Question):
                    questions += 1
                    assert _solve(task, story, line) == line.answer
                    support = [x for x in story if x.id in line.support]
                    assert _solve(task, support, line) == line.answer
        assert questions == 1000


@pytest.mark.parametrize("task", MAKERS)
def test_generated_files_repeat_differ_by_seed_and_share_no_story(task):
    train, test = generate(task)
    assert (train, test) == generate(task) and train != generate(task, 1)[0]
    assert not set(parse(train, "train")) & set(parse(test, "test"))


def test_generated_answers_are_balanced():
    def shares(task):
        answers = [x.answer for s in parse(generate(task)[0], "g") for x in s if isinstance(x, Question)]
        return {a: answers.count(a) / len(answers) for a in answers}

    assert shares(6)["yes"] == pytest.approx(0.5, abs=0.03)
    assert all(max(shares(task).values()) < 0.3 for task in (1, 2, 15))
