"""A trained language model reads and goes on: surprises, draws, unknown words, and how they are shown."""

import io
import itertools
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from support.commandline import gradnoise

from gradnoise.data.ptb import EOS, load_corpus
from gradnoise.paper import load_system
from gradnoise.paper.lstm_lm import Config, LanguageModelExperiment
from gradnoise.paper.lstm_lm.reader import Reader, Reading, Word, known_words
from gradnoise.paper.lstm_lm.show import SHADES, legend, measured, shown
from gradnoise.study import StudyError, run_study


@pytest.fixture(scope="module")
def reader() -> Reader:
    """A network of random weights, sharp enough that words differ."""
    corpus = load_corpus("generated")
    torch.manual_seed(0)
    model = LanguageModelExperiment(corpus).model(Config(units=12, init=1.0))
    return Reader(model.eval(), corpus, "untrained")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("study")
    run_study(load_system("lstm-lm").study("smoke", "generated", seeds=1, arms=["eta-0.01"]), place)
    return place


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


def said(capsys) -> tuple[str, str]:
    out, err = capsys.readouterr()
    return " ".join(out.split()), " ".join(err.split())


# --- reading --------------------------------------------------------------------------------------


def test_surprises_are_those_of_the_evaluation(reader):
    """Read word by word, a text has the losses that the model finds in one window."""
    corpus = reader.corpus
    config = Config(units=12, init=1.0)
    words = [corpus.words[i] for i in corpus.test[:400].tolist()]
    reading = Reading(reader)
    reading.read(words)
    features, *_ = reader.model(
        torch.tensor([corpus.ids([EOS, *words[:-1]])]).T, *torch.zeros(2, config.layers, 1, config.units)
    )
    losses = reader.model.log_losses(features, torch.tensor([corpus.ids(words)]).T)
    assert [w.text for w in reading.words] == words
    expected = (losses.flatten() / math.log(2)).tolist()
    assert [w.bits for w in reading.words] == pytest.approx(expected, abs=1e-4)


def test_draws_follow_the_networks_probabilities(reader):
    """Frequencies of first words against their probabilities; 0 takes the likeliest; the seed decides."""
    n, shares = 400, Reading(reader)._expected.exp()
    drawn, generator = torch.zeros_like(shares), torch.Generator().manual_seed(1)
    for _ in range(n):
        reading = Reading(reader)
        reading.go_on(1, 1.0, generator)
        drawn[reader.corpus.ids([reading.words[0].text])[0]] += 1
    expected = shares * n
    likely = expected > 5
    chi = ((drawn - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi < 2 * likely.sum() + 20  # 1e-4 or less by chance
    greedy = Reading(reader)
    greedy.go_on(5, 0.0, generator)
    assert greedy.words[0].text == reader.corpus.words[int(shares.argmax())]
    cold = Reading(reader)
    cold.go_on(5, 1e-3, generator)
    assert [w.text for w in cold.words] == [w.text for w in greedy.words]
    texts = []
    for seed in (3, 3, 4):
        reading = Reading(reader)
        reading.go_on(20, 1.0, torch.Generator().manual_seed(seed))
        texts.append([w.text for w in reading.words])
    assert texts[0] == texts[1] != texts[2]


def test_surprise_does_not_depend_on_the_temperature(reader):
    reading, again = Reading(reader), Reading(reader)
    reading.go_on(10, 3.0, torch.Generator().manual_seed(0))
    again.read([w.text for w in reading.words])
    assert again.words == reading.words


def test_unknown_words(reader):
    corpus = reader.corpus
    assert known_words(corpus, "rain Rain") == (["rain", "rain"], [])
    with pytest.raises(StudyError, match=r"'stoen' is not among the 64 words .* has no <unk>; did you mean 'stone'"):
        known_words(corpus, "stoen")


# --- showing --------------------------------------------------------------------------------------


WORDS = [Word("rain", 0.5), Word("kutu", 5.0), Word(EOS, 30.0), Word("stone", 8.0)]


def rendered(text, **options) -> str:
    console = Console(file=io.StringIO(), width=100, **options)
    console.print(text)
    return console.file.getvalue()


def test_numbers_without_colours():
    assert rendered(shown(WORDS, colour=False)) == "rain (0.5) kutu (5.0) ⏎ (30.0)\nstone (8.0)\n"


def test_colours_on_a_terminal():
    text = shown(WORDS, colour=True, plain=1)
    assert text.plain == "rain kutu ⏎\nstone"
    styles = {text.plain[s.start : s.end]: str(s.style) for s in text.spans}
    assert styles["rain"] == "italic" and styles["kutu"] == SHADES[2][1]
    assert styles["⏎"] == SHADES[5][1] and styles["stone"] == SHADES[3][1]
    assert "\x1b[" in rendered(text, force_terminal=True, color_system="truecolor")
    assert all(a < b for a, b in itertools.pairwise(least for least, _ in SHADES))
    named = " ".join(rendered(legend()).split())
    assert named == "bits of surprise: below 2 2 to 4 4 to 7 7 to 10 10 to 13 13 and more"


def test_the_mean_in_bits_is_a_perplexity():
    assert measured("read", [Word("a", 1.0), Word("b", 3.0)]).plain == "read  2 words, 2.00 bits a word, perplexity 4"


# --- the command ----------------------------------------------------------------------------------


def test_a_run_speaks_and_is_kept(folder, tmp_path, capsys):
    command = ("lstm-lm", "sample", str(folder), "--row", "plain", "--arm", "none", "--text", "rain", "--words", "7")
    assert gradnoise(*command) == 0
    first, _ = said(capsys)
    (kept,) = (tmp_path / "cache" / "gradnoise" / "weights").iterdir()
    written = kept.stat().st_mtime_ns
    assert "row plain, none, seed 0, 1 epoch," in first and "rain (" in first and "another network" not in first
    assert "read 1 word," in first and "drawn 7 words," in first
    assert gradnoise(*command) == 0
    assert said(capsys)[0] == first and kept.stat().st_mtime_ns == written
    assert gradnoise(*command, "--draw", "1") == 0
    assert said(capsys)[0] != first


def test_a_sentence_is_read_with_its_end(folder, capsys):
    assert gradnoise("lstm-lm", "sample", str(folder), "--text", "Rain kutu", "--words", "0") == 0
    out, _ = said(capsys)
    assert "rain (" in out and "kutu (" in out and "⏎ (" in out
    assert "read 3 words," in out and "drawn" not in out


def test_unknown_words_are_told(tmp_path, capsys):
    (tmp_path / "words").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "words" / f"{part}.txt").write_bytes(b" the <unk> sat \n a dog ran on the mat \n" * 120)
    study = load_system("lstm-lm").study("smoke", "words", 1, rows=["plain"], options={"any_corpus": True})
    run_study(study, tmp_path / "study")
    assert gradnoise("lstm-lm", "sample", "study", "--text", "the zebra sat", "--words", "0") == 0
    out, _ = said(capsys)
    assert "Read as <unk>, since the network does not know them: zebra." in out and "<unk> (" in out


def test_another_network_than_the_stored_run_is_told(folder, capsys, monkeypatch):
    monkeypatch.setattr("gradnoise.paper.lstm_lm.reader.TOLERANCE", -1.0)
    assert gradnoise("lstm-lm", "sample", str(folder), "--words", "1") == 0
    assert "This is another network than the stored run" in said(capsys)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--words", "-1"), "--words -1: give 0 or more"),
        (("--temperature", "-0.5"), "--temperature -0.5: give a number of 0 or more"),
        (("--temperature", "nan"), "--temperature nan"),
        (("--words", "0"), "there is nothing to read"),
        (("--epochs", "2"), "--epochs 2: this run has 1 to 1"),
        (("--row", "plane"), "its rows are dropout, plain"),
        (("--text", "stoen"), "did you mean 'stone'"),
    ],
)
def test_what_cannot_be_is_refused(folder, arguments, message, capsys):
    assert gradnoise("lstm-lm", "sample", str(folder), *arguments) == 1
    assert message in said(capsys)[1]


def test_a_folder_of_another_system(tmp_path, capsys):
    run_study(load_system("nram").study("smoke", seeds=1, steps=4, rows=["A"]), tmp_path / "nram")
    assert gradnoise("lstm-lm", "sample", "nram") == 1
    assert "holds a study of nram; this command shows runs of lstm-lm" in said(capsys)[1]
