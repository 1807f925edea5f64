"""Build hook: a wheel carries the committed result tables as ``gradnoise/_results``."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ResultsHook(BuildHookInterface):
    """Adds ``results/`` to the wheel where there is one.

    A static ``force-include`` would fail on a tree without results, and would leave a stale copy beside
    an editable install, which reads ``results/`` in the working tree.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a build; `version` is "standard" or "editable"."""
        results = Path(self.root, "results")
        if version != "editable" and results.is_dir() and any(results.iterdir()):
            build_data["force_include"][str(results)] = "gradnoise/_results"
