"""Loading a corpus: the Penn Treebank where it can be had, any other text in its format, or a generated one."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gradnoise.errors import DataError, DataNotFoundError, nearest
from gradnoise.files import read_bytes

from ..fetch import DATA_VARIABLE, UNVERIFIED_VARIABLE, cache_folder, user_folder
from ..sources import has_digest
from .chain import topics_chain
from .published import HOW_TO_GET, PARTS, PUBLISHED
from .text import EOS, Corpus, encode, read_words

#: Bytes that a file may have: two hundred times those of the published training part.
MAX_BYTES = 1 << 30
NAMES = ("auto", "ptb", "generated")
#: Folders below the user's folder that may hold the files; the last one is the layout of simple-examples.tgz.
LAYOUTS = ("ptb", ".", "data", "simple-examples/data")
ANY = (
    "To use another corpus in this format, ask for any corpus (--any-corpus on the command line, any_corpus=True in"
    f" Python, or {UNVERIFIED_VARIABLE}=1)"
)
#: Tokens of the generated parts.
GENERATED = {"train": 40_000, "valid": 5_000, "test": 10_000}


def load_corpus(name: str | Path = "auto", *, any_corpus: bool = False) -> Corpus:
    """Load a corpus: by name, or from a folder with ptb.train.txt, ptb.valid.txt and ptb.test.txt.

    The files are looked for in the folder that the environment variable GRADNOISE_DATA names, then in the cache. They
    are never downloaded. They are checked against the published checksums.

    Args:
        name: "ptb"; "generated" for sentences of a known Markov chain (no file needed); "auto" for the Penn Treebank
            where it is there and the generated sentences where not; or the path of a folder.
        any_corpus: take whatever text the files hold, as long as it has their format: ASCII, a sentence on each line,
            words parted by blanks, no word in valid or test that train does not have. The files may then also be
            called train.txt, valid.txt and test.txt.

    Raises:
        DataError: `name` is neither a name nor a folder, or a file is damaged or not the published one.
        DataNotFoundError: the files are not there; the text says how to get them.

    Example:
        >>> corpus = load_corpus("generated")
        >>> len(corpus.words), corpus.is_stand_in
        (64, True)
    """
    any_corpus = any_corpus or os.environ.get(UNVERIFIED_VARIABLE) == "1"
    if name == "generated":
        return _generated()
    if name in ("auto", "ptb"):
        try:
            return _read(_find(os.environ, any_corpus), any_corpus)
        except DataNotFoundError:
            if name == "auto":
                return _generated()
            raise
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"No corpus is called {str(name)!r}, nor is that a folder; names are {', '.join(NAMES)}"
            f"{nearest(str(name), NAMES)}."
        )
    paths = _in_folder(folder, any_corpus)
    if paths is None:
        other = "" if any_corpus or not _in_folder(folder, True) else f" {ANY}."
        raise DataNotFoundError(
            f"{folder} does not hold the files {', '.join(_names(any_corpus))}. {HOW_TO_GET}.{other}"
        )
    return _read(paths, any_corpus)


def _names(any_corpus: bool) -> list[str]:
    """Return the file names that are looked for; of a user's own corpus the first alternative is as good."""
    return [f"ptb.{part}.txt" + (f" (or {part}.txt)" if any_corpus else "") for part in PARTS]


def _find(environ: Mapping[str, str], any_corpus: bool) -> dict[str, Path]:
    """Return the paths of the three files, in the user's folder or the cache."""
    user, cache = user_folder(environ), cache_folder(environ)
    for root in filter(None, (user, cache)):
        if paths := _in_folder(root, any_corpus):
            return paths
    place = f"{DATA_VARIABLE} ({user / LAYOUTS[0] if user else 'not set'})"
    raise DataNotFoundError(
        f"The Penn Treebank is not here. Looked in {place} and in the cache ({cache / LAYOUTS[0]}).\n{HOW_TO_GET}."
        f" Put them into DIR/{LAYOUTS[0]} and set {DATA_VARIABLE}=DIR, or name their folder as the data. Generated"
        " sentences ('generated') need no files."
    )


def _in_folder(root: Path, any_corpus: bool) -> dict[str, Path] | None:
    """Return the paths of the three files in the first layout that has them all; None where no layout has any.

    Raises:
        DataError: a layout has some of the files only.
    """
    for folder in (root / layout for layout in LAYOUTS):
        for form in ("ptb.{}.txt", "{}.txt")[: 1 + any_corpus]:
            paths = {part: folder / form.format(part) for part in PARTS}
            present = [os.path.lexists(path) for path in paths.values()]  # a broken link counts: reading it tells
            if all(present):
                return paths
            if any(present):
                lacks = ", ".join(p.name for p, there in zip(paths.values(), present, strict=True) if not there)
                raise DataError(f"{folder} lacks {lacks}: all three files are needed.")
    return None


def _read(paths: Mapping[str, Path], any_corpus: bool) -> Corpus:
    stamps = tuple((part, str(path), _stamp(path)) for part, path in paths.items())
    return _read_once(stamps, any_corpus)


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file does."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=4)
def _read_once(stamps: tuple[tuple[str, str, tuple[int, int]], ...], any_corpus: bool) -> Corpus:
    where = {part: path for part, path, _ in stamps}
    payloads = {}
    for part, path in where.items():
        try:
            payloads[part] = read_bytes(path, MAX_BYTES)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error}).") from None
    published = all(has_digest(payloads[part], PUBLISHED[part].sha256) for part in PARTS)
    if not (published or any_corpus):
        for part in PARTS:
            _check_published(part, payloads[part], where[part])
    sizes = "929,589 / 73,760 / 82,430 words"
    if published:
        return encode(payloads, "ptb", f"Penn Treebank ({sizes} with <eos>)", where)
    corpus = encode(payloads, "corpus", "", where)
    counts = " / ".join(f"{len(corpus.part(part)):,}" for part in PARTS)
    return replace(corpus, title=f"a corpus of the user's, NOT the Penn Treebank ({counts} words with <eos>)")


def _check_published(part: str, payload: bytes, where: str) -> None:
    """Refuse a file that is not the published one; the message tells the first thing that differs.

    Raises:
        DataError: as said.
    """
    wanted = PUBLISHED[part]
    if has_digest(payload, wanted.sha256):
        return
    words = read_words(payload, where)  # what is wrong with the text itself says more than "differs"
    found = {"lines": payload.count(b"\n"), "tokens": len(words), "different words": len(set(words))}
    counts = {"lines": wanted.lines, "tokens": wanted.tokens, "different words": wanted.types}
    for what, count in counts.items():
        if found[what] != count:
            differs = f"has {found[what]:,} {what}, the published ptb.{part}.txt has {count:,}"
            break
    else:
        differs = f"does not have the checksum of the published ptb.{part}.txt"
    raise DataError(f"{where} {differs}. {HOW_TO_GET}. {ANY}.")


@functools.cache
def _generated() -> Corpus:
    """Return three texts of the chain, and what the chain itself scores on them."""
    chain = topics_chain()
    payloads = {part: chain.write(tokens, f"ptb/{part}") for part, tokens in GENERATED.items()}
    corpus = encode(payloads, "generated", "", {part: f"the generated {part} part" for part in PARTS})
    floors = {part: float(chain.losses(_chain_words(payloads[part]))[1:].mean()) for part in PARTS}
    rate = chain.entropy_rate()
    title = (
        f"sentences of a Markov chain with {len(corpus.words)} words, entropy {rate:.4f} nats per word"
        " (NOT the Penn Treebank)"
    )
    return replace(corpus, title=title, floors={**floors, "entropy_rate": rate})


def _chain_words(payload: bytes) -> list[str | None]:
    return [None if word == EOS else word for word in read_words(payload, "generated")]
