"""Text files with a sentence on each line as sequences of word ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gradnoise.errors import DataError

from .published import PARTS

EOS = "<eos>"
LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text in three parts as word ids. The process shares it: do not write to its tensors.

    Args:
        name: "ptb", "generated", or "corpus" for a text of the user's.
        title: its name in headings, with what a reader must know about it.
        words: the V words by id, in the order in which the training part has them first; `<eos>` ends sentences.
        train, valid, test: int64 [n], ids of the words one after another, each sentence ended by `<eos>`.
        fingerprint: first 16 hex digits of a sha256 over the three files.
        floors: part -> nats per predicted word of the process that made the text, see `Chain`; {} where none did.
    """

    name: str
    title: str
    words: tuple[str, ...] = field(repr=False)
    train: Tensor = field(repr=False)
    valid: Tensor = field(repr=False)
    test: Tensor = field(repr=False)
    fingerprint: str
    floors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every id has a word."""
        for part in PARTS:
            ids, last = self.part(part), len(self.words) - 1
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) <= last:
                wrong = ids[(ids < 0) | (ids > last)][0].item()
                raise DataError(f"the {part} part of {self.title or self.name}: the id {wrong} is outside 0..{last}")

    @property
    def is_stand_in(self) -> bool:
        """Whether the text is another one than the Penn Treebank, about which its figures say nothing."""
        return self.name != "ptb"

    def part(self, name: str) -> Tensor:
        """Return the ids of "train", "valid" or "test"."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    def ids(self, words: list[str]) -> list[int]:
        """Return the ids of words.

        Raises:
            DataError: a word is not in the vocabulary.
        """
        known = {word: i for i, word in enumerate(self.words)}
        if strange := [word for word in words if word not in known]:
            raise DataError(f"{strange[0]!r} is not among the {len(known):,} words of the {self.name} corpus")
        return [known[word] for word in words]


def read_words(payload: bytes, where: str) -> list[str]:
    """Return the words of a file with `<eos>` after every line, and refuse what is no plain text of sentences.

    Args:
        payload: its bytes.
        where: its path, for messages.

    Raises:
        DataError: the file is empty, a pointer of Git LFS, not ASCII, or holds a tab, a CR or a literal `<eos>`.
    """
    if payload.startswith(LFS_POINTER):
        raise DataError(f"{where} is a pointer of Git LFS, not the text: run `git lfs pull` where it comes from.")
    for byte, name in ((b"\r", "a carriage return (CR)"), (b"\t", "a tab")):
        if byte in payload:
            line = payload[: payload.index(byte)].count(b"\n") + 1
            raise DataError(f"{where} has {name} in line {line:,}; lines end in LF, and blanks part the words.")
    try:
        text = payload.decode("ascii")
    except UnicodeDecodeError as error:
        line = payload[: error.start].count(b"\n") + 1
        raise DataError(
            f"{where} has the byte 0x{payload[error.start]:02x} in line {line:,}; the format is plain ASCII."
        ) from None
    if not text.strip():
        raise DataError(f"{where} is empty.")
    if EOS in text.split():
        raise DataError(f"{where} holds a literal {EOS!r}, which is added at the end of each line when it is read.")
    if not text.endswith("\n"):
        raise DataError(f"{where} does not end with a line feed: its last sentence is cut short.")
    return text.replace("\n", f" {EOS} ").split()


def encode(payloads: Mapping[str, bytes], name: str, title: str, where: Mapping[str, str]) -> Corpus:
    """Read three files into a corpus; the vocabulary is that of the training part.

    Args:
        payloads: part -> bytes.
        name, title: of the corpus.
        where: part -> path, for messages.

    Raises:
        DataError: a file is damaged, or a word of valid or test is not in train.
    """
    words = {part: read_words(payloads[part], where[part]) for part in PARTS}
    ids: dict[str, int] = {}
    for word in words["train"]:
        ids.setdefault(word, len(ids))
    for part in PARTS[1:]:
        if strange := sorted(set(words[part]) - ids.keys()):
            raise DataError(
                f"{where[part]} has words that are not in {where['train']}: {', '.join(strange[:3])}"
                f"{' and others' if len(strange) > 3 else ''}; replace rare words by <unk>."
            )
    train, valid, test = (torch.from_numpy(np.array([ids[w] for w in words[part]], np.int64)) for part in PARTS)
    content = hashlib.sha256()
    for part in PARTS:
        content.update(hashlib.sha256(payloads[part]).digest())
    return Corpus(name, title, tuple(ids), train, valid, test, fingerprint=content.hexdigest()[:16])


def unigram_loss(corpus: Corpus, part: str) -> float:
    """Return the nats per word of a part under the training part's frequencies of words: what guessing scores.

    Raises:
        DataError: the part has a word that the training part has not.
    """
    counts = np.bincount(corpus.train.numpy(), minlength=len(corpus.words))
    seen = counts[corpus.part(part).numpy()]
    return float(np.log(len(corpus.train)) - np.log(seen).mean())
