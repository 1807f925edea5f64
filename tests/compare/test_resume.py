"""`gradnoise resume` goes on with a comparison; what is run comes from the person, never from the folder."""

import re
import shlex
import sys

from support.commandline import gradnoise
from support.comparing import GOOD, compare, outcomes, said, script


def test_a_comparison_is_resumed_as_it_was_asked_for(tmp_path, capsys):
    path = script(tmp_path, "if seed == 2 and not os.path.exists('room'):\n    sys.exit('no room')\n" + GOOD)
    options = (
        "--arm",
        "more=--more",
        "--margin",
        "0.5",
        "--timeout",
        "60",
        "--broken",
        "0",
        "--out",
        "study",
        "--most-failures",
        "9",
    )
    assert compare(path, *options, seeds=3) == 0
    before = outcomes(tmp_path / "study")
    (tmp_path / "room").touch()
    capsys.readouterr()
    assert gradnoise("resume", "study") == 1
    text = said(capsys)
    assert "a command is never run because a folder names it" in text
    assert outcomes(tmp_path / "study") == before
    line = re.search(r"say: gradnoise (resume study -- .*\{seed\}'?)", text)
    assert line, text
    assert gradnoise(*shlex.split(line[1])) == 0
    text, after = said(capsys), outcomes(tmp_path / "study")
    assert "Runs of 1 seeds that did not end well are made again" in text and "noise, eta = 0.01, more (--more)" in text
    assert len(after) == 9 and {o["status"] for o in after.values()} == {"finished"}
    assert {o["limit"] for o in after.values()} == {60}
    assert all(after[name] == o for name, o in before.items() if not name.startswith("seed-2"))


def test_resume_says_what_it_cannot_do_with_a_comparison(tmp_path, capsys):
    path = script(tmp_path, GOOD)
    assert compare(path) == 0
    capsys.readouterr()
    command = ("--", sys.executable, "-S", str(path), "{seed}")
    assert gradnoise("resume", "runs/compare-train", "--workers", "2", *command) == 1
    assert "--workers is not for comparisons" in said(capsys)
    assert gradnoise("resume", "runs/compare-train", *command[:-1], "{arm}{seed}") == 1
    assert "another study" in said(capsys)
    script(tmp_path, GOOD + "# changed\n")
    assert gradnoise("resume", "runs/compare-train", *command) == 1
    assert "say --accept-changed-code" in said(capsys)
    assert gradnoise("resume", "runs/compare-train", "--accept-changed-code", *command) == 0
    assert "Nothing to run" in said(capsys)
