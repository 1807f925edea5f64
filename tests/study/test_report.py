import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.report_fakes import METRIC, helpful, paired, study, trial

from gradnoise.study.analysis.headline import conclusions
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.report.compared import compared
from gradnoise.study.report.extras import Table
from gradnoise.study.report.figures import plots
from gradnoise.study.report.methods import methods_used
from gradnoise.study.report.page import render_report, slug, typeset, write_report
from gradnoise.study.report.svg import PALETTE, themed_svg
from gradnoise.study.results import Curve, StudyResults
from gradnoise.study.spec import Arm, Claim

TABLE = Table(("task", "ours"), (("1 a|b", "-2.5"), ("mean", "<3>")), "How to read it.")
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style" and data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def render(results: StudyResults) -> str:
    summary = summarise(results)
    return render_report(summary, plots(results, summary), facts=compared(results, summary))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().plot([1, 2, 3])
    extra = [("An extra: figure", figure), ("An extra table", TABLE)]
    return write_report(helpful(), tmp_path_factory.mktemp("report"), extra)


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page(written.read_text(encoding="utf-8"))


class TestPage:
    def test_has_no_script_and_fetches_nothing(self, written, page):
        assert not {"script", "iframe", "object", "embed", "link", "img"} & set(page.tags)
        targets = [v for n, v in page.attributes if n in ("href", "src", "xlink:href", "action", "srcset")]
        assert all(target.startswith("#") for target in targets)
        html = written.read_text(encoding="utf-8")
        assert "http://" not in html and "https://" not in html and "@import" not in html
        assert all(reference.startswith("#") for reference in re.findall(r"url\(([^)]*)\)", html))
        assert not [name for name, _ in page.attributes if name.startswith("on")]

    def test_ids_are_unique_and_references_lead_somewhere(self, written, page):
        ids = [value for name, value in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        html = written.read_text(encoding="utf-8")
        assert set(re.findall(r'(?:url\(|href=")#([\w.-]+)', html)) <= set(ids)

    def test_says_the_verdict_before_all_tables_and_figures(self, written):
        html = written.read_text(encoding="utf-8")
        headings = re.findall(r"<h[12][^>]*>(.*?)</", html)
        assert headings == [
            conclusions(summarise(helpful()))[0],
            "Test accuracy, each arm against no noise",
            "Results beside the published ones",
            "Published claims",
            "What was compared",
            "Training curves",
            "An extra: figure",
            "An extra table",
            "Methods and details",
            "Every verdict in a sentence",
            "Success rates",
            "Noise-to-gradient ratio",
            "A second reading, and what became of the runs",
            "Where this departs from the published protocol",
            "What was done",
            "Methods used",
            "To do it again",
        ]

    def test_shows_figures_command_seeds_and_deviations(self, page):
        text = page.text
        assert "gradnoise run fake" in text and "Numbers are made up." in text and "0, 1, 2, 3, 4, 5, 6, 7" in text
        assert "45.0 → 53.0" in text and "Hartigan (1969)" in text

    def test_titles_warn_of_stand_in_data(self):
        html = render(study(paired(lambda arm, seed: 50.0), stand_in=True))
        assert "<title>A fake study [stand-in data: made-up numbers]</title>" in html
        before, _, after = html.partition("<main>")
        assert "[stand-in data: made-up numbers]" in before.partition("<header>")[2] and "Stand-in data" in before
        assert after
        assert "stand-in" not in render(study(paired(lambda arm, seed: 50.0))).partition("<body>")[2]

    def test_escapes_the_text_of_users(self):
        evil = '<script>alert(1)</script> & "q" $x_1$ $y^2$'
        arms = (Arm("none", title=evil), Arm("noise", title=evil))
        claim = Claim("C<1>", "a", evil, evil, "noise", "helps", {"noise": {"best": 1.0, "mean": 1.0}})
        metric = dataclasses.replace(METRIC, title=evil, unit="<u>")
        changes = {"title": evil, "data_title": evil, "deviations": (evil,), "protocol": ((evil, evil),)}
        results = study(
            paired(lambda arm, seed: 50.0 + seed, setting=evil),
            arms=arms,
            claims=[claim],
            metric=metric,
            rows=("a",),
            provenance=(("command", evil),),
            **changes,
        )
        html = render(results)
        assert "<script" not in html and "alert(1)" in html
        assert "$x_1$" in Page(html).text

    @pytest.mark.parametrize(
        "trials",
        [
            [],
            [trial(arm, 0, None, status="pending") for arm in ("none", "noise")],
            [trial("none", 0, 50.0), trial("noise", 0, None, status="running")],
            [trial("none", 0, 50.0), trial("noise", 0, None, status="diverged")],
            paired(lambda arm, seed: 50.0, 1),
            [dataclasses.replace(t, curves={}) for t in paired(lambda arm, seed: 50.0 + seed)],
        ],
    )
    def test_unfinished_studies_have_a_page(self, trials):
        page = Page(render(study(trials)))
        assert "Methods used" in page.text

    @pytest.mark.filterwarnings("ignore:metric 'accuracy'. you say that less of it is better")
    def test_metrics_without_unit_chance_and_success_rule(self):
        metric = dataclasses.replace(METRIC, unit="", chance=None, success=None, higher_is_better=False)
        text = Page(render(study(paired(lambda arm, seed: 5.0 + seed), metric=metric))).text
        assert "lower is better" in text and "Finished, diverged" in text
        assert "Success rates" not in text and "Wilson" not in text

    def test_an_experiments_own_table_is_on_the_page_in_markdown_and_as_csv(self, written, page):
        assert "1 a|b −2.5 mean <3> How to read it How to read it." in page.text
        assert "| 1 a\\|b | -2.5 |" in (written.parent / "summary.md").read_text(encoding="utf-8")
        assert (written.parent / "tables/extra-2-an-extra-table.csv").read_text() == "task,ours\n1 a|b,-2.5\nmean,<3>\n"

    def test_says_how_long_the_runs_of_each_row_are(self):
        trials = [dataclasses.replace(t, config={"steps": 20 + 10 * t.seed}) for t in paired(lambda arm, seed: 5.0, 2)]
        assert "4 trials of 20 to 30 updates" in Page(render(study(trials))).text
        same = [dataclasses.replace(t, config={"steps": 20}) for t in trials]
        assert "4 trials of 20 updates" in Page(render(study(same))).text


class TestFiles:
    def test_everything_is_there_and_nothing_else(self, written):
        folder = written.parent
        names = [
            "extra-1-an-extra-figure",
            "noise-to-gradient",
            "paired-differences",
            "success-rates",
            "training-curves",
        ]
        expected = {
            "report.html",
            "summary.csv",
            "summary.md",
            "summary.tex",
            "claims.csv",
            "trials.csv",
            "curves.csv.gz",
            "study.json",
        }
        expected |= {f"figures/{name}.{kind}" for name in names for kind in ("svg", "png")}
        expected |= {"tables/extra-2-an-extra-table.csv"}
        assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == expected

    def test_same_results_give_the_same_bytes(self, tmp_path):
        results = study(paired(lambda arm, seed: 50.0 + seed, 2))
        pages = [write_report(results, tmp_path / name) for name in ("a", "b")]
        for one in (p for p in pages[0].parent.rglob("*") if p.is_file()):
            other = pages[1].parent / one.relative_to(pages[0].parent)
            assert one.read_bytes() == other.read_bytes(), one.name

    def test_figures_are_well_formed(self, written):
        for path in (written.parent / "figures").glob("*.svg"):
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        for path in (written.parent / "figures").glob("*.png"):
            assert path.read_bytes().startswith(b"\x89PNG")

    def test_a_large_study_stays_small(self):
        rng = np.random.Generator(np.random.PCG64(0))
        trials = []
        for seed in range(60):
            for arm in ("none", "noise"):
                steps, values = np.arange(1, 1001), rng.normal(50.0, 20.0, 1000)
                one = trial(arm, seed, 50.0)
                trials.append(dataclasses.replace(one, step=1000, curves={"accuracy": Curve(steps, values)}))
        results = study(trials, steps=1000, seeds=tuple(range(60)))
        assert len(render(results)) < 800_000


class TestDrawing:
    def test_colours_become_variables_and_black_the_colour_of_the_text(self):
        figure = Figure(figsize=(3, 2))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=PALETTE["arm-1"][0])
        svg = themed_svg(figure, "x", 'a "label" <here>')
        assert "var(--arm-1)" in svg and PALETTE["arm-1"][0] not in svg and "currentColor" in svg
        assert "#000000" not in svg and "font-family" not in svg
        assert ElementTree.fromstring(svg).get("aria-label") == 'a "label" <here>'

    def test_two_figures_on_a_page_share_no_id(self):
        results = helpful(2)
        summary = summarise(results)
        panels = [panel for plot in plots(results, summary) for panel in plot.panels]
        figures = [Figure(figsize=(panel.width, panel.height)) for panel in panels]
        for figure, panel in zip(figures, panels, strict=True):
            panel.draw(figure.add_subplot())
        drawn = [themed_svg(figure, f"p{i}", "") for i, figure in enumerate(figures)]
        ids = [name for svg in drawn for name in re.findall(r' id="([^"]*)"', svg)]
        assert len(drawn) == 8 and len(ids) == len(set(ids))

    def test_every_colour_is_readable_on_its_page(self):
        for name in [n for n in PALETTE if n.startswith("arm-")] + ["ink", "muted"]:
            for colour, page in zip(PALETTE[name], PALETTE["page"], strict=True):
                assert contrast(colour, page) >= 4.5, (name, colour)

    def test_no_plot_without_something_to_draw(self):
        metric = dataclasses.replace(METRIC, success=None)
        bare = [dataclasses.replace(t, curves={}) for t in paired(lambda arm, seed: 50.0)]
        results = study(bare, metric=metric)
        assert [p.name for p in plots(results, summarise(results))] == ["paired-differences"]


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2.2."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


class TestWords:
    def test_methods_are_those_that_were_used(self):
        names = [m.name for m in methods_used(summarise(helpful()))]
        assert {"Several comparisons", "Pairs that would decide", "Paired success rates"} <= set(names)
        metric = dataclasses.replace(METRIC, success=None, chance=None)
        one = study(paired(lambda arm, seed: 50.0 + seed + 9.0 * (arm == "noise"), 6), metric=metric)
        assert [m.name for m in methods_used(summarise(one))] == [
            "Pairs",
            "Test of a paired difference",
            "Interval of a mean or a mean difference",
            "Verdicts",
        ]

    def test_typeset(self):
        assert typeset("[-1.5, +2] in 2-fold, p = 0.01 and x-1") == (
            "[−1.5, +2] in 2-fold, p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.01 and x-1"
        )

    def test_slug(self):
        assert slug("What's σ, at t = 0?") == "what-s-at-t-0"
        assert slug("σ") == "figure"
