"""The command `gradnoise new`: a file with a study of one's own that runs, to be changed line by line."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from gradnoise.errors import StudyError
from gradnoise.files import replace_atomically

SUFFIX = ".py"


@dataclass(frozen=True)
class New:
    """Write a file with an experiment and a study of your own, which runs as it is; then make it yours, line by line.

    Example: gradnoise new own_model
    """

    name: Positional[str]
    """Name of the file, with or without .py."""

    def __call__(self, console: Console) -> None:
        """Write it, and say what to do with it."""
        path = write_starting_file(self.name)
        console.print(f"Written: {path}, an experiment and its study, which run as they are.", soft_wrap=True)
        for line in (
            f"gradnoise run {path} --dry-run",
            f"gradnoise run {path} --seeds 2 --steps 60 --out runs/look",
            f"gradnoise run {path}",
        ):
            console.print(f"  {line}", soft_wrap=True)


def write_starting_file(name: str) -> Path:
    """Write `template.py` under a name of the user's, with experiment and study called after it.

    Args:
        name: of the file, perhaps with folder and suffix: "own_model" or "studies/own_model.py".

    Returns:
        The path of the file.

    Raises:
        StudyError: the name is none for a module, or the file is there.
    """
    path = Path(name)
    path = path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
    module = path.stem.replace("-", "_").lower()
    if not module.isidentifier() or not module.isascii() or keyword.iskeyword(module):
        raise StudyError(f"{name!r}: give a name of letters, digits and _, such as own_model")
    path = path.with_name(path.stem.replace("-", "_") + SUFFIX)
    if path.exists():
        raise StudyError(f"{path} is there already; give another name")
    label = module.strip("_").replace("_", "-") or module
    kind = "".join(part.capitalize() for part in re.split("_+", module)) or "MyModel"
    text = resources.files("gradnoise.commands").joinpath("template.py").read_text(encoding="utf-8")
    for old, new in (("my_model", path.stem), ("my-model", label), ("MyModel", kind)):
        text = text.replace(old, new)
    replace_atomically(path, lambda file: file.write(text.encode()))
    return path
