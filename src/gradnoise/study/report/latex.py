"""The table of a study for a paper: LaTeX with booktabs."""

from __future__ import annotations

from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.report.text import caption, difference_heading, lines, with_unit

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "<": "$<$",
    ">": "$>$",
} | {mark: "\\" + mark for mark in "&%$#_{}"}


def latex(summary: Summary) -> str:
    """Return the table as LaTeX; it needs the package booktabs.

    Args:
        summary: what `summarise` returned.
    """
    metric = summary.record.metric
    headings = ("Row", "Arm", "Runs", with_unit("Mean", metric.unit), difference_heading(metric), "p", "Verdict")
    body = []
    for line in lines(summary):
        mean = f"{line.final.mean} {line.final.mean_interval}".rstrip()
        change = f"{line.final.difference} {line.final.difference_interval}".rstrip()
        cells = (line.title, line.label, line.runs, mean, change, line.p, line.verdict)
        body.append(" & ".join(map(_escaped, cells)) + r" \\")
    words = f"{_escaped(summary.record.title)}. {_escaped(caption(summary))}"
    head = " & ".join(map(_escaped, headings)) + r" \\"
    return "\n".join(
        [
            r"\begin{table}", r"\centering", rf"\caption{{{words}}}",
            r"\begin{tabular}{llrrrrl}", r"\toprule", head, r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", r"\end{table}", "",
        ]
    )  # fmt: skip


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
