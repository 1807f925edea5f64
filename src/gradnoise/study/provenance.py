"""What a run ran on: command, versions, hardware, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("gradnoise", "torch", "numpy", "scipy", "numba")


def provenance(
    command: str = "", device: str = "", facts: tuple[tuple[str, str], ...] = ()
) -> tuple[tuple[str, str], ...]:
    """Return lines (name, value) for a report.

    Args:
        command: the command line; empty for none.
        device: what the runs train on; empty where nobody says.
        facts: what else the engine says of what it trains.
    """
    written = command.encode(errors="replace").decode()  # a path may hold bytes that are no text
    lines = [("command", written)] if command else []
    lines += facts
    lines += [("started", now())]
    if commit := _commit():
        lines += [("commit", commit)]
    lines += [("python", platform.python_version()), *versions()]
    lines += [("system", f"{platform.system()} {platform.machine()}"), ("processor", processor())]
    if device:
        lines += [("device", device)]
    return tuple(lines)


def now() -> str:
    """Return the time, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def versions() -> list[tuple[str, str]]:
    """Return the installed versions of the packages that decide a result."""
    found = []
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return found


def processor() -> str:
    """Return the name of the processor and the number of cores."""
    cores = f"{os.cpu_count()} cores"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return f"{names[0]}, {cores}"
    return f"{platform.processor() or platform.machine()}, {cores}"


def _commit() -> str:
    """Return the commit of a source checkout of this package; empty for an installed package."""
    root = Path(__file__).resolve().parents[3]
    return commit_of(root) if (root / ".git").exists() else ""


def commit_of(folder: Path) -> str:
    """Return the commit that a folder is in, with + when its checkout has changes; empty where git knows none."""
    try:
        commit = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit.stdout.strip()
