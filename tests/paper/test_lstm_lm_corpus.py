"""A text of the user's own on the command line: from a folder to a study that is resumed, and refused when edited."""

from pathlib import Path

import pytest
from support.commandline import gradnoise

from gradnoise.paper import load_system
from gradnoise.study import Store, StudyError

SENTENCES = (
    b" the cat sat \n a dog ran on the mat \n" * 120,
    b" a cat ran \n" * 40,
    b" the dog sat on the mat \n" * 60,
)
SMOKE = ("run", "lstm-lm", "--scale", "smoke", "--seeds", "1", "--rows", "plain", "--workers", "1")
FOLDER = "runs/lstm-lm-smoke"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder with a cache of its own, without the Penn Treebank."""
    monkeypatch.chdir(tmp_path)
    for name in ("GRADNOISE_DATA", "GRADNOISE_DATA_UNVERIFIED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(folder: str, form: str = "{}.txt") -> Path:
    place = Path(folder)
    place.mkdir()
    for part, text in zip(("train", "valid", "test"), SENTENCES, strict=True):
        (place / form.format(part)).write_bytes(text)
    return place.absolute()


def record():
    with Store(Path(FOLDER), readonly=True) as store:
        return store.record()


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def study(data: str = "auto", **options):
    return load_system("lstm-lm").study("smoke", data, options=options)


def test_a_corpus_is_learned_and_resumed_from_anywhere_until_it_is_edited(tmp_path, monkeypatch, capsys):
    place = write("words")
    assert gradnoise(*SMOKE, "--data", "words", "--any-corpus") == 0
    assert "NOT the Penn Treebank" in capsys.readouterr().out
    kept = record()
    assert kept.recipe["data"] == str(place) and kept.recipe["options"] == {"any_corpus": True}
    assert kept.stand_in and any("Another text instead of the Penn Treebank" in line for line in kept.deviations)

    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert gradnoise("resume", f"../{FOLDER}") == 0
    assert gradnoise("report", f"../{FOLDER}", "--out", "report") == 0
    capsys.readouterr()

    (place / "test.txt").write_bytes(SENTENCES[2].replace(b"dog", b"cat", 1))
    assert gradnoise("resume", f"../{FOLDER}") == 1
    error = said(capsys)
    assert f"{place} no longer holds the data that the stored study began with" in error and kept.experiment in error
    monkeypatch.chdir(tmp_path)
    assert gradnoise(*SMOKE, "--data", "words", "--any-corpus") == 1
    assert "the folder holds another study: its experiment is" in said(capsys)

    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    assert gradnoise("resume", FOLDER) == 1
    assert str(place) in said(capsys)


def test_the_text_decides_the_ids_and_its_place_does_not():
    first, second = (study(str(write(name)), any_corpus=True) for name in ("one", "two"))
    assert [t.id for t in first.trials()] == [t.id for t in second.trials()]
    Path("two/valid.txt").write_bytes(SENTENCES[1] * 2)
    assert not {t.id for t in first.trials()} & {t.id for t in study("two", any_corpus=True).trials()}


def test_a_folder_called_like_known_data_is_not_meant():
    write("generated")
    made = study("generated")
    assert made.recipe["data"] == "generated" and made.experiment.corpus.name == "generated"
    assert study("./generated", any_corpus=True).experiment.corpus.name == "corpus"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "words"), "LDC99T42"),  # whose files are not named like the treebank's
        (("--data", "words"), "--any-corpus on the command line"),
        (("--data", "treebank"), "the published ptb.train.txt has 42,068"),
        (("--data", "ptb"), "LDC99T42"),
        (("--data", "wrods", "--any-corpus"), "or a folder with ptb.train.txt, ptb.valid.txt and ptb.test.txt"),
        (("--data", "generatd"), "did you mean 'generated'"),
        (("--any-corpus",), "--any-corpus with --data auto: name the folder"),
        (("--any-corpus", "--data", "generated"), "--any-corpus with --data generated: name the folder"),
    ],
)
def test_what_is_no_corpus_is_refused(arguments, message, capsys):
    write("words")
    write("treebank", "ptb.{}.txt")
    assert gradnoise(*SMOKE, *arguments) == 1
    assert message in said(capsys) and not Path("runs").exists()


def test_only_the_language_model_has_the_option(capsys):
    assert gradnoise("run", "lstm-lm", "--help") == 0
    assert "--any-corpus" in capsys.readouterr().out
    assert gradnoise("run", "--help") == 0
    assert "--any-corpus" not in capsys.readouterr().out
    assert gradnoise("run", "deep-mlp", "--any-corpus") == 2
    # a word that only looks like a system
    assert gradnoise("run", "--out", "lstm-lm", "nram", "--any-corpus") == 1
    assert "nram has no option 'any_corpus' of its own" in said(capsys)


def test_a_value_of_another_type_is_refused():
    with pytest.raises(StudyError, match="option any_corpus = 'yes' of lstm-lm: a bool is needed"):
        study(any_corpus="yes")


def test_an_epoch_between_evaluations_becomes_two():
    made = load_system("lstm-lm").study("quick", "generated", eval_every=2)
    epoch = made.experiment.epoch(made.experiment.configured({"batch_size": 20, **made.settings[0].values}))
    assert {made.lengths(s)[1] for s in made.settings} == {2 * epoch}
    assert "Evaluations every 2 epochs instead of every 1." in made.deviations
