"""Which code and configuration the runs of a study loaded: a file that changes between them, or during one, is found.

The hook in a run writes down its modules and the configuration that it read; what the command names is looked at from
here, since not every program has the hook. Files that runs write themselves are told apart and never count as code.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnoise.files import replace_atomically

#: The study's list, beside its runs; and what the hook of a run leaves among its records.
LIST, RECORD = "files.json", "files.txt"
SCRIPTS = (".py", ".sh", ".bash", ".pl", ".r", ".R", ".jl", ".lua")
CONFIGURATION = (".yaml", ".yml", ".toml", ".json", ".jsonnet", ".ini", ".cfg", ".gin")
CODE = (*SCRIPTS, *CONFIGURATION)
#: Larger files are data.
LARGEST = 1 << 22
#: Instead of a hash: the file is written by runs.
WRITTEN = ""

_LOCK = threading.Lock()


@dataclass(frozen=True)
class Loaded:
    """The list of a study: each file as the first run that loaded it had it.

    Args:
        runs: folder of the study's runs.
    """

    runs: Path

    @property
    def accepted(self) -> int:
        """How often a change was accepted: runs from before and after one are no pair."""
        return int(self._read()["accepted"])

    def changed(self) -> list[str]:
        """Return the files that are not what they were when a run loaded them; one that is gone is not looked at."""
        known = self._read()["files"]
        return [path for path, old in known.items() if old != WRITTEN and _hash(Path(path)) not in (None, old)]

    def of_code(self, words: Sequence[str]) -> list[str]:
        """Return the words of a command without files that its runs write, such as a log."""
        known = self._read()["files"]
        return [word for word in words if known.get(_key(word)) != WRITTEN]

    def forget(self, files: Sequence[str]) -> None:
        """Take files off the list, whose change does not matter or was accepted."""
        with _LOCK:
            kept = self._read()
            kept["files"] = {path: old for path, old in kept["files"].items() if path not in files}
            self._write(kept | {"accepted": kept["accepted"] + 1})

    def take(self, before: Mapping[str, str], words: Sequence[str], place: Path, well: bool) -> list[str]:
        """Add what a run loaded, and return which of it had changed, during the run or since an earlier one.

        Args:
            before: what `named` returned before the run.
            words: the command of the run.
            place: its folder.
            well: whether it ended well; of others nothing is added.
        """
        after, told = named(words, place), _told(place / "records" / RECORD)
        written = {path for how, _, path in told if how == "written"}
        read = {path: old for how, old, path in told if how != "written"}
        seen = {path: old for path, old in before.items() if path.endswith(CODE)} | read
        other = {path for path, now in after.items() if before.get(path) != now}
        begun = (place / "command.sh").stat().st_mtime
        with _LOCK:
            kept = self._read()
            late = {p for how, _, p in told if how == "late"}
            late |= {p for p in other if p in kept["files"] or (p in before and p.endswith(SCRIPTS))}
            # What a program without the hook writes, as a shell that makes a configuration, is seen by its time alone.
            made = {p for p in seen.keys() - kept["files"].keys() - late if _time(Path(p)) > begun}
            made |= {p for p in other - read.keys() if p not in late or not p.endswith(CODE)}
            files = {**kept["files"], **dict.fromkeys(written | made, WRITTEN)}
            old = {path: files.get(path, now) for path, now in seen.items()}
            changed = [p for p, now in seen.items() if old[p] != WRITTEN and (old[p] != now or p in late)]
            if well and not changed and (new := {**files, **old}) != kept["files"]:
                self._write(kept | {"files": new})
        return changed

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads((self.runs / LIST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"accepted": 0, "files": {}}

    def _write(self, kept: Mapping[str, Any]) -> None:
        body = json.dumps(kept, indent=1).encode()
        replace_atomically(self.runs / LIST, lambda file: file.write(body))


def named(words: Sequence[str], place: Path) -> dict[str, str]:
    """Return hashes of the scripts and files of configuration that a command names, be it behind a = or an @.

    Of other files that it names there is no hash but a time, which tells whether the run writes them.

    Args:
        words: the command of a run.
        place: folder of the run; what lies in it is no code.
    """
    parts = {part for word in words for part in (word, word.partition("=")[2], word.lstrip("@")) if part}
    paths = [Path(part) for part in sorted(parts) if not Path(part).absolute().is_relative_to(place)]
    there = {_key(path): _hash(path) if path.name.endswith(CODE) else str(_time(path)) for path in paths}
    return {path: now for path, now in there.items() if now is not None}


def _told(path: Path) -> list[tuple[str, str, str]]:
    """Return what the hook wrote down: "read", "late" or "written", the hash, and the name of each file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    return [(how, old, _key(name)) for how, old, name in (line.split(" ", 2) for line in lines if line.count(" ") > 1)]


def _key(path: str | Path) -> str:
    """Return the name of a file in the list: from the working folder, where it lies in it, so that both may move."""
    whole, here = os.path.abspath(path), os.path.join(os.getcwd(), "")
    return whole.removeprefix(here)


def _hash(path: Path) -> str | None:
    """Return the hash of a file; None for one that is not there, or is data."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() if path.stat().st_size <= LARGEST else None
    except (OSError, ValueError):
        return None


def _time(path: Path) -> float:
    """Return when a file was changed; 0 where there is none."""
    try:
        return path.stat().st_mtime if path.is_file() else 0.0
    except (OSError, ValueError):  # a word may be anything
        return 0.0
