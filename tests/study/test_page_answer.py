"""The page gives the answer first, names its arms, and stays small and quick when a study is large."""

import dataclasses
import itertools
import re
import time
from html import escape, unescape

import numpy as np
import pytest
from support.report_fakes import METRIC, STEPS, helpful, paired, study, trial

from gradnoise.study.analysis.curves import binned, quantiles
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.report.chart import Chart, Line, fluid
from gradnoise.study.report.compared import compared, plain
from gradnoise.study.report.extras import Table
from gradnoise.study.report.figures import largest_rows, plots
from gradnoise.study.report.numbers import probability
from gradnoise.study.report.page import render_report
from gradnoise.study.report.strips import DOTS, differences, outlook, rates
from gradnoise.study.report.svg import TOLD_APART, arm_slot
from gradnoise.study.report.tables import markdown
from gradnoise.study.report.training import ROWS
from gradnoise.study.results import Curve, StudyResults
from gradnoise.study.spec import Arm, Claim


def render(results: StudyResults) -> str:
    summary = summarise(results)
    return render_report(summary, plots(results, summary), facts=compared(results, summary))


def many_arms(count: int, seeds: int = 8) -> StudyResults:
    arms = (Arm("none", title="no noise"), *(Arm(f"a{i}", {"noise": i}, title=f"recipe {i}") for i in range(count)))
    gains = np.linspace(-9.0, 9.0, count + 1)
    trials = [trial(a.name, s, 50.0 + s + gains[i] * (i > 0)) for i, a in enumerate(arms) for s in range(seeds)]
    return study(trials, arms=arms, seeds=tuple(range(seeds)))


def many_rows(count: int, seeds: int = 6) -> StudyResults:
    rows = [f"r{i}" for i in range(count)]
    trials = [
        t for i, row in enumerate(rows) for t in paired(lambda arm, seed, i=i: 50.0 + seed + i / 99, seeds, row=row)
    ]
    return study(trials, rows=rows, seeds=tuple(range(seeds)))


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(helpful())


class TestOrder:
    def test_headline_then_differences_then_table_then_methods(self):
        html = render(helpful())
        places = [html.index(mark) for mark in ('class="headline"', 'class="strips"', "<table>", 'id="methods"')]
        assert places == sorted(places)

    def test_fewer_than_500_words_before_the_methods(self):
        assert 100 < self.words(render(helpful())) < 500

    def test_a_large_table_with_claims_and_tables_of_its_own_has_fewer_than_500_too(self):
        trials = [
            dataclasses.replace(t, row=f"{t.row}{i}", arm=arm, id=f"{t.id}{i}{arm}")
            for t in helpful().trials
            for i in range(3)
            for arm in (("none",) if t.arm == "none" else ("noise", "dropout"))
        ]
        rows = tuple(dict.fromkeys(t.row for t in trials))
        claims = [Claim(f"C{i}", row, "Noise helps from a simple initialisation.", "Paper, Table 1", "noise", "helps",
                        {"noise": {"mean": 90.0, "best": 95.0}}) for i, row in enumerate(rows)]  # fmt: skip
        arms = (Arm("none", title="no noise"), Arm("noise", {"noise": 1.0}), Arm("dropout", {"dropout": 0.5}))
        results = study(trials, rows=rows, claims=claims, arms=arms, seeds=tuple(range(8)))
        summary = summarise(results)
        own = [
            (f"Table {i}", Table(("row", "ours"), (("a", "1"),), "A caption of some length. " * 9)) for i in range(2)
        ]
        assert self.words(render_report(summary, plots(results, summary), own, compared(results, summary))) < 500

    @staticmethod
    def words(page: str) -> int:
        """Words that a reader sees before the methods: not those of pictures, nor those that are folded away."""
        before = page.partition("<body>")[2].partition('id="methods"')[0]
        seen = re.sub(r"<details.*?</details>|<svg.*?</svg>", "", before, flags=re.S)
        return len([w for w in unescape(re.sub(r"<[^>]*>", " ", seen)).split() if re.search("[A-Za-z]{2}", w)])

    def test_no_sentence_comes_twice(self):
        text = unescape(re.sub(r"<[^>]*>", "\n", render(helpful()).partition("<body>")[2]))
        sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n", text) if len(s.split()) > 5 and s.endswith(".")]
        assert len(sentences) > 20 and len(sentences) == len(set(sentences))

    def test_undecided_lines_name_their_arm(self, summary):
        undecided = [e for e in summary.effects if e.verdict.outcome.value == "undecided"]
        assert undecided and all("noise and no noise" in e.verdict.sentence or "for noise" in e.verdict.sentence
                                 for e in undecided)  # fmt: skip


class TestStrips:
    def test_every_comparison_has_a_strip_that_names_its_arm(self, summary):
        chart = differences(summary)
        assert chart and [title for title, _ in chart.groups] == ["Row a", "Row b", "Row c"]
        strip = chart.groups[0][1][0]
        assert (strip.arm, strip.value[:4], strip.verdict, len(strip.dots)) == ("noise", "+42.", "helps", 8)
        assert strip.low is not None and strip.high is not None and strip.low <= strip.place <= strip.high
        assert chart.better == "right" and chart.zero is not None and chart.zero < strip.place
        assert strip.published is not None and abs(strip.published - strip.place) > 20  # +8 against +42

    @pytest.mark.filterwarnings("ignore:metric 'accuracy'. you say that less of it is better")
    def test_better_points_to_the_left_where_lower_is_better(self):
        metric = dataclasses.replace(METRIC, higher_is_better=False, success=None)
        results = study(paired(lambda arm, seed: 50.0 + seed - 5.0 * (arm == "noise")), metric=metric)
        html = render(results)
        assert "← better · Difference" in html and "(lower is better)" in html

    def test_what_would_decide_stands_beside_an_undecided_one(self, summary):
        texts = [outlook(effect, summary) for effect in summary.effects]
        assert texts[0] == "" and re.fullmatch(r"needs [\d,]+ (to [\d,]+ pairs|pairs or more)", texts[2])

    def test_an_arm_beyond_the_picture_has_an_arrow(self):
        arms = (Arm("none"), Arm("a"), Arm("b"))
        values = {"none": 50.0, "a": 51.0, "b": 5000.0}
        trials = [trial(arm, s, v + s * (1 + 0.1 * (arm == "a"))) for arm, v in values.items() for s in range(8)]
        chart = differences(summarise(study(trials, arms=arms)))
        assert chart and [s.beyond for s in chart.groups[0][1]] == ["", ">"] and chart.caption.endswith("else: b.")

    def test_many_seeds_are_a_bar_instead_of_dots(self):
        rng = np.random.Generator(np.random.PCG64(0))
        seeds = DOTS + 1
        summary = summarise(study(paired(lambda arm, seed: 50.0 + rng.normal(), 40)))
        effect = summary.effects[0]
        wide = dataclasses.replace(effect.comparison, n=seeds, differences=tuple(rng.normal(size=seeds)))
        chart = differences(dataclasses.replace(summary, effects=(dataclasses.replace(effect, comparison=wide),)))
        assert chart
        strip = chart.groups[0][1][0]
        assert not strip.dots and strip.middle and "middle 80%" in chart.caption

    def test_rates_are_by_setting(self, summary):
        chart = rates(summary)
        assert chart and [(s.value, s.detail) for s in chart.groups[0][1]][:2] == [
            ("0/8", "lr=0.1"),
            ("0/8", "lr=0.01"),
        ]
        assert rates(summarise(study([trial("none", 0, None, status="pending")]))) is None


class TestColours:
    def test_no_two_arms_share_a_colour_that_tells_them_apart(self):
        assert [arm_slot(i) for i in range(TOLD_APART)] == list(range(TOLD_APART))
        assert {arm_slot(i) for i in range(TOLD_APART, 40)} == {TOLD_APART}

    def test_more_arms_than_colours_have_their_names_at_their_lines(self):
        few, many = (plots(r, summarise(r))[0].charts[0] for r in (many_arms(5), many_arms(9)))
        assert few.labels == []
        assert sorted(words for _, words, _ in many.labels) == sorted(["no noise", *(f"recipe {i}" for i in range(9))])
        heights = sorted(height for height, *_ in many.labels)
        assert all(b - a > 0.07 for a, b in itertools.pairwise(heights))
        html = render(many_arms(9))
        assert html.count('class="lt"') == 19 and 'class="legend"' not in html


class TestCompared:
    def test_says_what_arms_change_what_is_shared_and_what_varies(self):
        results = helpful()
        facts = dict(compared(results, summarise(results)))
        assert facts["noise"] == "noise Annealed(eta=0.01)"
        assert facts["in every run"] == "depth 20" and facts["varied, in all arms alike"] == "lr 0.1, 0.01"
        assert facts["runs"] == "8 seeds, 64 trials of 30 updates, on made-up numbers"

    def test_names_model_optimizer_and_commits(self):
        lines = (("model", "MLP, 12 parameters"), ("optimizer", "SGD"), ("your code", "abc"), ("command", "x"))
        results = study(paired(lambda arm, seed: 50.0), provenance=lines)
        facts = compared(results, summarise(results))
        assert facts[-3:] == lines[:3]

    def test_values_as_one_writes_them(self):
        assert plain({"": "a.b:Steps", "at": [1, 2], "factor": 0.5}) == "Steps(at=(1, 2), factor=0.5)"
        assert (plain(None), plain(1e-5), plain(True), plain("x")) == ("none", "1e-05", "True", "x")


class TestLarge:
    def test_beyond_200_runs_quantiles_are_drawn(self):
        few, many = (
            plots(r, summarise(r))[0] for r in (study(paired(lambda arm, seed: 50.0 + seed, n)) for n in (20, 101))
        )
        assert sum(line.weight == "run" for line in few.charts[0].lines) == 40 and not few.charts[0].areas
        assert not any(line.weight == "run" for line in many.charts[0].lines) and len(many.charts[0].areas) == 2
        assert "single runs" in few.caption and "middle 80%" in many.caption

    def test_of_many_rows_those_with_the_largest_differences_have_curves(self):
        results = many_rows(ROWS + 6)
        summary = summarise(results)
        assert len(largest_rows(summary, ROWS)) == ROWS
        curves = plots(results, summary)[0]
        assert len(curves.charts) == ROWS and f"Drawn: the {ROWS} rows" in curves.caption
        assert render(results).count('<tr class="row">') == 2 * (ROWS + 6)  # tables leave nothing out

    def test_a_page_is_linear_in_its_rows(self):
        def seconds(count: int) -> float:
            results = many_rows(count)
            summary = summarise(results)
            made = plots(results, summary)
            start = time.perf_counter()
            render_report(summary, made)
            return time.perf_counter() - start

        seconds(20)
        assert seconds(240) < 3.0 * 12 * max(seconds(20), 0.01)

    def test_long_curves_are_binned(self):
        rng = np.random.Generator(np.random.PCG64(0))
        curves = [Curve(np.arange(1, 100_001), rng.normal(size=100_000)) for _ in range(2)]
        steps, median = quantiles(curves, [0.5], [None, None], most=400)
        assert steps.size == 400 and (steps[0], steps[-1]) == (1, 100_000)
        assert median[7] == pytest.approx(np.median([c.values[steps[7] - 1] for c in curves]))

    def test_bins_keep_what_was_read_last_and_leave_short_curves_alone(self):
        curves = [Curve(np.arange(0, 100, 2), np.arange(50.0)), Curve(np.arange(1, 100, 2), np.arange(50.0))]
        one, other = binned(curves, 5)
        assert one.steps.size == other.steps.size + 1 == 5  # the second is first read after update 0
        assert one.values.tolist() == [c // 2 for c in one.steps] and binned(curves, 100) is curves


def test_a_fluid_chart_draws_only_what_is_known():
    line = Line(STEPS, np.array([0.0, np.nan, 1.0]), 1, "median", dash=1)
    chart = Chart("", "y", 30, 0.0, 1.0, (), (line,), ends=((30.0, 1.0, 1),), level=0.5)
    drawn = fluid(chart)
    assert 'class="median arm-1"' in drawn and 'd="M333 400 1000 0"' in drawn
    assert "stroke-dasharray" in drawn and 'class="end arm-1" d="M1000 0h0"' in drawn
    assert 'class="level" d="M0 200H1000"' in drawn


class TestProbabilities:
    def test_stand_beside_the_verdict_on_the_page_and_in_the_table(self, summary: Summary):
        effect = summary.effects[0]
        assert effect.verdict.better is not None
        shown = f"{probability(effect.verdict.better)}, {probability(effect.verdict.equivalent or 0.0)}"
        assert f"| {shown.replace('<', chr(92) + '<')} |" in markdown(summary)
        assert f'<td class="n">{escape(shown)}</td>' in render_report(summary, ())

    def test_are_never_certain(self):
        assert [probability(p) for p in (0.0, 0.004, 0.5, 0.996, 1.0)] == ["< 1%", "< 1%", "50%", "> 99%", "> 99%"]

    def test_have_no_column_where_they_cannot_be_told(self):
        assert "Better, same" not in markdown(summarise(paired_once()))


def paired_once() -> StudyResults:
    """Return a study with one pair."""
    return study(paired(lambda arm, seed: 50.0 + seed, 1), seeds=(0,))
