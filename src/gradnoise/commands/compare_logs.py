"""`gradnoise compare logs`: what the runs of a comparison printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from gradnoise.errors import StudyError


@dataclass(frozen=True)
class Logs:
    """Show what the runs of one seed of a comparison printed, and where all of it is.

    Example: gradnoise compare logs 3
    """

    seed: Positional[int]
    """Which seed."""
    out: Annotated[Path | None, arg(help_behavior_hint="(default: the newest in runs/)")] = None
    """Folder of the comparison."""
    arm: Annotated[str | None, arg(help_behavior_hint="(default: all)")] = None
    """Only this arm."""
    lines: int = 20
    """Last lines of each output."""

    def __call__(self, console: Console) -> None:
        """Print them."""
        from gradnoise.study import Store
        from gradnoise.study.run.script_engine import SHOWN, run_folder
        from gradnoise.study.script.outcome import Outcome
        from gradnoise.study.script.sources import tail

        folder = self.out or _newest()
        with Store(folder, readonly=True) as store:
            trials = store.results().trials
        chosen = [t for t in trials if t.seed == self.seed and self.arm in (None, t.arm)]
        if not chosen:
            seeds, arms = sorted({t.seed for t in trials}), list(dict.fromkeys(t.arm for t in trials))
            raise StudyError(
                f"{folder} has no run of seed {self.seed}{f' and arm {self.arm!r}' if self.arm else ''}: seeds are"
                f" {seeds[0]} to {seeds[-1]}, arms {', '.join(arms)}"
            )
        for trial in chosen:
            place = run_folder(folder, trial.seed, trial.config["arm"], trial.id)
            found = Outcome.read(place)
            state = "has not ended" if found is None else ": ".join(filter(None, (found.status, found.sentence)))
            console.print(Text(f"seed {trial.seed}, arm {trial.arm}: {state}", style="bold"))
            for name in ("stdout.txt", "stderr.txt"):
                console.print(Text(str(place / name), style="dim"), soft_wrap=True)
                for line in tail(place / name, SHOWN).splitlines()[-self.lines :]:
                    console.out(f"  {line}", highlight=False)


def _newest() -> Path:
    """Return the comparison in runs/ that was written to last."""
    found = sorted(Path("runs").glob("compare-*/study.sqlite*"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise StudyError("there is no comparison in runs/; name the folder of one with --out")
    return found[-1].parent
