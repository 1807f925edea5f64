"""The command of a comparison: the user's own words, in which three placeholders are replaced, and nothing else."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradnoise.errors import StudyError, nearest
from gradnoise.study.canonical import canonical
from gradnoise.study.spec import Config

#: What stands in front of Python's path in a run: the hook in its process.
HOOK = Path(__file__).with_name("child")
PLACEHOLDERS = ("seed", "dir", "arm")
#: Of the driver's own environment, should it be a run of another comparison.
OURS = ("GRADNOISE_SEED", "GRADNOISE_DIR", "GRADNOISE_ARM", "GRADNOISE_RECORDS", "GRADNOISE_NOISE",
        "GRADNOISE_STOP_AFTER")  # fmt: skip


@dataclass(frozen=True)
class Command:
    """What to run for each trial.

    Args:
        words: the command; `{seed}`, `{dir}` and `{arm}` in it are replaced.
        seed_env: a further environment variable that holds the seed; None for none.
        seeded: whether the script is to get a seed at all; without one, runs share nothing.

    Raises:
        StudyError: there is no command, or no way for the seed to reach it.
    """

    words: tuple[str, ...]
    seed_env: str | None = None
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check that the seed can reach the script."""
        if not self.words:
            raise StudyError("there is no command to compare; give it after --, as in -- python train.py --seed {seed}")
        if self.seed_env is not None and not re.fullmatch(r"[A-Za-z_]\w*", self.seed_env):
            raise StudyError(f"--seed-env {self.seed_env!r} is no name of an environment variable, such as SEED")
        if not self.seeded or self.seed_env or any("{seed}" in word for word in self.words):
            return
        found = re.findall(r"\{(\w+)\}", " ".join(self.words))
        near = [name for name in found if name not in PLACEHOLDERS and difflib.get_close_matches(name, ["seed"])]
        hint = f"; did you mean {{seed}} by {{{near[0]}}}?" if near else ""
        raise StudyError(
            "the command has no {seed}, so that all its runs would be the same; write it where the script takes its"
            " seed, name an environment variable that the script reads (--seed-env SEED), or say --no-seed" + hint
        )

    @property
    def name(self) -> str:
        """The script's name without its ending, or else the program's."""
        scripts = [Path(w).stem for w in self.words if w.endswith((".py", ".sh"))]
        modules = [after for before, after in zip(self.words, self.words[1:], strict=False) if before == "-m"]
        return re.sub(r"[^\w.-]+", "-", (scripts or modules or [Path(self.words[0]).name])[0]).strip("-.") or "script"

    @property
    def text(self) -> str:
        """The command as it was given."""
        return shlex.join(self.words)

    def check_program(self) -> None:
        """Check that the program can be found.

        Raises:
            StudyError: it is not on the path.
        """
        if shutil.which(self.words[0]) is None:
            raise StudyError(
                f"the command begins with {self.words[0]!r}, which is no program on the path"
                f"{nearest(self.words[0], ('python', 'python3', 'torchrun', 'accelerate', 'uv', 'bash'))}"
            )

    def of(self, seed: int, config: Config, folder: Path) -> list[str]:
        """Return the words of one run, those that its arm adds at the end.

        Args:
            seed: of the trial.
            config: of the trial: "arm", and perhaps "arguments" and "noise".
            folder: that is given for `{dir}`.
        """
        values = {"seed": str(seed), "dir": str(folder), "arm": config["arm"]}

        def replaced(word: str) -> str:
            return re.sub(r"\{(seed|dir|arm)\}", lambda found: values[found[1]], word)

        return [replaced(word) for word in (*self.words, *config.get("arguments", ()))]

    def environment(
        self, seed: int, config: Config, folder: Path, records: Path, stop_after: int = 0
    ) -> dict[str, str]:
        """Return what is set in the environment of one run, besides what the driver's own has.

        Args:
            seed: of the trial.
            config: of the trial.
            folder: for the script's files.
            records: folder in which the hook and `gradnoise.report` write.
            stop_after: updates after which the run is to be stopped; 0 for never.
        """
        variables = {
            "GRADNOISE_SEED": str(seed),
            "PL_GLOBAL_SEED": str(seed),
            "PYTHONHASHSEED": str(seed),
            "GRADNOISE_DIR": str(folder),
            "GRADNOISE_ARM": config["arm"],
            "GRADNOISE_RECORDS": str(records),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH")))),
        }
        if self.seed_env:
            variables[self.seed_env] = str(seed)
        if "noise" in config:
            fields = json.loads(canonical(config["noise"]))
            variables["GRADNOISE_NOISE"] = json.dumps({k: v for k, v in fields.items() if k and v is not None})
        return variables | ({"GRADNOISE_STOP_AFTER": str(stop_after)} if stop_after else {})


def whole_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the driver's environment with the variables of a run in it."""
    return {k: v for k, v in os.environ.items() if k not in OURS} | dict(variables)


def pasteable(words: list[str], variables: Mapping[str, str]) -> str:
    """Return one line for a shell that makes the same run by hand."""
    return shlex.join(["env", *(f"{name}={value}" for name, value in variables.items()), *words])
