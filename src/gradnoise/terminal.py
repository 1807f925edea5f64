"""Where programs of this package print: text is only text there, and a terminal that goes away ends nothing.

What a user or a store named is never markup, holds no control character that a terminal would obey, and can be printed
in whatever encoding there is. A pipe that nobody reads any more, or a full disk, stops the printing and not the work.
"""

from __future__ import annotations

import errno
import os
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

#: Categories of Unicode that draw nothing: control characters, half of a pair of surrogates, and those that turn the
#: direction of writing or hide.
INVISIBLE = ("Cc", "Cs", "Cf")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
#: Failures that mean that nobody reads; what was to be printed is not missed.
NOT_READ = (errno.EPIPE, errno.EBADF)


def printable(text: str) -> str:
    """Return text that a terminal only draws: line ends and tabs stay, other invisible characters are replaced."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(REPLACEMENT if unicodedata.category(c) in INVISIBLE and c not in "\n\t" else c for c in text)


class Stream:
    """Standard output or standard error as they are now; the first failure to write ends the writing and is kept.

    Args:
        name: "stdout" or "stderr".
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.failure: OSError | None = None

    @property
    def _stream(self) -> TextIO | None:
        stream = getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)  # rich may stand in for it meanwhile

    @property
    def encoding(self) -> str:
        """Its encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return self.failure is None and self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Return its descriptor."""
        if self._stream is None:
            raise OSError(errno.EBADF, "it is closed")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write what its encoding can say."""
        if self._stream is not None and self.failure is None:
            known = text.encode(self.encoding, "replace").decode(self.encoding)
            try:
                self._stream.write(known)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Let it go out."""
        if self._stream is not None and self.failure is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Keep the failure, and let what is buffered, which Python writes at its end, go nowhere."""
        self.failure = error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


class Terminal(Console):
    """A console of rich's without markup, which draws what it is given and nothing else.

    Args:
        stderr: print to standard error instead of standard output.
        options: of rich's `Console`.
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        self.stream = Stream("stderr" if stderr else "stdout")
        options = {"highlight": False, "markup": False, "emoji": False} | options
        super().__init__(file=self.stream, **options)  # type: ignore[arg-type]

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Draw, without characters that a terminal would obey."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def lost(self) -> str:
        """Return why something that was to be read could not be printed; empty where all was, or nobody reads."""
        self.stream.flush()
        failure = self.stream.failure
        if failure is None or failure.errno in NOT_READ:
            return ""
        return f"what was to be printed is lost ({failure.strerror}); everything else is done"
