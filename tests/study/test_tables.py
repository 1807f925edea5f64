import dataclasses
import io
import re

import pytest
from rich.console import Console
from support.report_fakes import METRIC, helpful, paired, study, trial

from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.analysis.statistics import Interval
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.report.latex import latex
from gradnoise.study.report.numbers import bounds, decimals, number, p_value
from gradnoise.study.report.tables import markdown
from gradnoise.study.report.terminal import print_summary, print_table, terminal_table
from gradnoise.study.report.text import display_title, lines
from gradnoise.study.spec import Arm, Claim


def printed(summary: Summary, width: int = 100, **options: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, **options)  # type: ignore[arg-type]
    print_table(summary, console)
    print_summary(summary, console)
    return file.getvalue()


def answer(summary: Summary, width: int = 80) -> list[str]:
    file = io.StringIO()
    print_summary(summary, Console(file=file, width=width))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(helpful())


class TestLines:
    def test_one_line_by_hand(self, summary):
        baseline, noise = lines(summary)[:2]
        assert (baseline.title, noise.title) == ("Row a", "")
        assert (noise.label, noise.runs, noise.verdict) == ("noise", "16", "helps")
        assert (noise.best_published, noise.mean_published) == ("97.0", "53.0")
        assert noise.success == "8/16"
        assert noise.success_interval == "[28%, 72%]"
        assert noise.final.difference.startswith("+42.")
        assert baseline.final.difference == "" and baseline.verdict == ""

    def test_a_cell_without_runs_has_dashes(self):
        results = study([trial(arm, 0, None, status="pending") for arm in ("none", "noise")])
        line = lines(summarise(results))[1]
        assert (line.runs, line.final.best, line.final.mean, line.success_interval) == (
            "0 of 1",
            "–",
            "–",
            "",
        )
        assert (line.final.difference, line.p, line.verdict) == ("", "", "undecided")

    @pytest.mark.parametrize(("margin", "digits"), [(1.0, 1), (2.5, 1), (0.5, 2), (0.01, 3), (20.0, 0), (0.0, 3)])
    def test_decimals_follow_the_margin(self, margin, digits):
        assert decimals(dataclasses.replace(METRIC, margin=margin)) == digits

    def test_numbers(self):
        assert number(-0.04, 1) == "0.0"
        assert number(2.345, 2, signed=True) in ("+2.35", "+2.34")
        assert number(float("nan"), 1) == "–"
        assert number(1.25e14, 1) == "1.25e+14" and number(-1e15, 1, signed=True) == "-1e+15"
        assert bounds(Interval(-1.0, 2.0, 0.95), 1, signed=True) == "[-1.0, +2.0]"
        assert bounds(Interval(float("-inf"), float("inf"), 0.95), 1) == ""
        assert p_value(0.00001) == "< 0.0001" and p_value(0.0123) == "0.012"

    def test_stand_in_data_is_named_in_the_title(self):
        record = study([], stand_in=True).record
        assert display_title(record) == "A fake study [stand-in data: made-up numbers]"


class TestTerminal:
    def test_has_headline_figures_published_figures_and_verdicts(self, summary):
        text = printed(summary, 200)
        assert conclusions(summary)[0] in text
        assert "(97.0)" in text and "▲ helps" in text and "? undecided" in text
        assert "✓ reproduced  C1" in text and "– not tested  C4" in text

    def test_no_difference_has_its_symbol(self):
        metric = dataclasses.replace(METRIC, success=None)
        results = study(paired(lambda arm, seed: 50.0 + seed + (arm == "noise") * 0.1 * (-1) ** seed), metric=metric)
        assert "= no difference" in printed(summarise(results), 200)

    def test_no_colour_codes_unless_on_a_terminal(self, summary):
        assert "\x1b" not in printed(summary)
        assert "\x1b" in printed(summary, force_terminal=True)

    def test_fits_eighty_columns(self, summary):
        table = terminal_table(summary, 80)
        assert max(map(len, table.plain.splitlines())) <= 80

    def test_differences_stand_beside_where_there_is_room(self, summary):
        narrow, wide = (terminal_table(summary, width).plain.splitlines() for width in (80, 160))
        assert len(narrow) == len(wide) + 3
        assert any("  noise" in line and "▲ helps" in line for line in wide)

    def test_text_of_users_is_not_markup(self):
        arms = (Arm("none", title="[red]none[/]"), Arm("noise", title="a [b] c"))
        text = printed(summarise(study(paired(lambda arm, seed: 50.0), arms=arms)))
        assert "[red]none[/]" in text and "a [b] c" in text

    def test_runs_take_the_place_of_successes_without_a_rule(self):
        metric = dataclasses.replace(METRIC, success=None)
        text = printed(summarise(study(paired(lambda arm, seed: 50.0), metric=metric)))
        assert "Runs" in text and "Success" not in text and "(paper)" not in text


class TestAnswer:
    def test_five_lines_of_eighty_columns(self, summary):
        said = answer(summary)
        assert said[0] == conclusions(summary)[0] and said[-1] == conclusions(summary)[1]
        assert len(said) == 5 and max(map(len, said)) <= 80
        assert re.fullmatch(r"▲ noise  Row a  \+42\.\d \[\+42\.\d, \+42\.\d\] points +p = 0\.\d+", said[1])
        assert all(line.startswith("? noise  Row") and "needs" in line for line in said[2:4])

    def test_the_largest_decided_differences_are_shown_and_the_others_counted(self):
        gains = {"a": 2.0, "b": -30.0, "c": 5.0, "d": 9.0, "e": None}
        arms = (Arm("none"), *map(Arm, gains))
        trials = [trial("none", s, 50.0 + s) for s in range(10)]
        for name, gain in gains.items():
            shifts = [40.0 * (-1.0) ** s if gain is None else gain for s in range(10)]
            trials += [trial(name, s, 50.0 + s + shifts[s]) for s in range(10)]
        said = answer(summarise(study(trials, arms=arms)))
        assert [line[:3] for line in said[1:4]] == ["▼ b", "▲ d", "▲ c"]
        assert said[4] == "2 more in the report." and len(said) == 5

    def test_long_titles_are_cut_and_no_line_breaks(self):
        results = study([*paired(lambda arm, seed: 50.0 + 9.0 * (arm == "noise") + seed)], rows=("a", "b"))
        record = dataclasses.replace(results.record, rows=(("a", "A title " * 20), ("b", "b")))
        said = answer(summarise(dataclasses.replace(results, record=record)))
        assert "…" in said[1] and len(said[1]) <= 80 and said[1].endswith("p = 0.0078")

    def test_what_weakens_the_answer_comes_after_it(self):
        trials = [*paired(lambda arm, seed: 50.0 + seed), trial("none", 8, None, status="pending")]
        said = answer(summarise(study(trials, stand_in=True)))
        assert said.index("Stand-in data: made-up numbers.") == 2 and said[3].startswith("So far 16 of 17 trials")

    def test_no_difference_says_within_what(self):
        results = study(paired(lambda arm, seed: 50.0 + seed + (arm == "noise") * 0.1 * (-1) ** seed),
                        metric=dataclasses.replace(METRIC, success=None))  # fmt: skip
        assert answer(summarise(results))[1].endswith("points  within ±1 points")


class TestLatex:
    def test_every_line_has_the_same_cells_and_nothing_is_left_to_format(self, summary):
        text = latex(summary)
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(rows) == 1 + 6 and {line.replace(r"\&", "").count("&") for line in rows} == {6}
        assert r"Mean, \% &" in text and "helps" in text and "[+42" in text
        arms = (Arm("none", title="a & b_c"), Arm("noise"))
        assert r"a \& b\_c" in latex(summarise(study(paired(lambda arm, seed: 50.0), arms=arms)))


class TestMarkdown:
    def test_every_line_of_the_table_has_the_same_cells(self, summary):
        table = [line for line in markdown(summary).splitlines() if line.startswith("|")]
        assert len(table) == 2 + 6
        assert len({line.count("|") for line in table}) == 1
        assert "| Row a | no noise |" in table[2]

    def test_escapes_what_would_format_or_break_the_table(self):
        claim = Claim("C", "a", "a | b *c* [d](e) <f>", "S", "noise", "helps")
        text = markdown(summarise(study(paired(lambda arm, seed: 50.0), claims=[claim], rows=("a",))))
        assert r"a \| b \*c\* [d\](e) \<f>" in text

    def test_leaves_out_published_columns_without_figures(self):
        text = markdown(summarise(study(paired(lambda arm, seed: 50.0))))
        assert "Published" not in text
