"""Build hook: a wheel carries the committed tables of claims as ``gradnoise/_results``."""

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
            for table in results.rglob("claims.csv"):
                build_data["force_include"][str(table)] = f"gradnoise/_results/{table.relative_to(results).as_posix()}"
