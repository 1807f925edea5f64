"""Build hook: a wheel carries the rows of the committed studies as ``gradnoise/_results``."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ResultsHook(BuildHookInterface):
    """Adds the tables that ``gradnoise claims`` reads.

    Reports, figures and curves stay in the repository. A static ``force-include`` would fail on a tree without
    results, and leave a stale copy beside an editable install, which reads ``results/`` in the working tree.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a build; `version` is "standard" or "editable"."""
        if version != "editable":
            results = Path(self.root, "results")
            for name in ("study.json", "trials.csv"):
                for file in results.rglob(name):
                    target = f"gradnoise/_results/{file.relative_to(results).as_posix()}"
                    build_data["force_include"][str(file)] = target
