"""Which code a comparison runs: the script's git revision and what was changed since, or else a hash of its files."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 30.0


@dataclass(frozen=True)
class Code:
    """The state of the code that a command runs.

    Args:
        fingerprint: hash of all that is known of it.
        text: what a person is told, such as "3f2a91c0d1e2 with changes".
    """

    fingerprint: str
    text: str


#: Where nothing is known of it.
NO_CODE = Code("", "")


def code_of(words: Sequence[str], folder: Path) -> Code:
    """Return the state of the code of a command.

    In a git repository that is its revision, the difference of the work tree from it, and the content of files that the
    command names and git does not know. Elsewhere it is the content of the files that the command names.

    Args:
        words: the command.
        folder: that it runs in.
    """
    files = [folder / word for word in words if word and (folder / word).is_file() and _is_text(folder / word)]
    scripts = [file for file in files if file.suffix in (".py", ".sh")]
    place = scripts[0].parent if scripts else folder
    revision = _git(place, "rev-parse", "HEAD").decode(errors="replace").strip()
    digest = hashlib.sha256(revision.encode())
    diff = b""
    if revision:
        diff = _git(place, "diff", "HEAD")
        digest.update(diff)
        files = [file for file in files if not _git(place, "ls-files", "--", str(file.resolve()))]
    for file in files:
        digest.update(b"\0" + file.name.encode() + b"\0" + file.read_bytes())
    if not revision:
        names = ", ".join(file.name for file in files) or "no file that the command names"
        return Code(digest.hexdigest()[:12], f"{names} ({digest.hexdigest()[:12]})")
    changes = " with changes" if diff or files else ""
    return Code(digest.hexdigest()[:12], f"commit {revision[:12]}{changes} ({digest.hexdigest()[:12]})")


def _is_text(file: Path) -> bool:
    """Tell whether a file may be a script or a configuration: it is small, and no program."""
    with open(file, "rb") as opened:
        return file.stat().st_size < 1 << 22 and b"\0" not in opened.read(4096)


def _git(folder: Path, *words: str) -> bytes:
    """Return what git says; nothing where it says nothing, there is no repository, or no git."""
    try:
        run = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return b""
    return run.stdout
