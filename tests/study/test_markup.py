"""Text of users in Markdown comes out as it went in, whatever marks it has: a real renderer says so."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gradnoise.study.report.markup import heading, inline, paragraph
from gradnoise.terminal import printable

RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
#: Marks that act, alone and where they meet.
PIECES = [*r"""\|*_`<>~$@&#[]()!:;.-+="'/^{}1""", " ", "a", "](", "![", "&lt;", "&#60;", "~~", "```", "<b>", "<!--"]
PIECES += ["http://a.b", "www.a.b", "mailto:a@b.c", ":smile:", "[a]: b", "1. ", "1) ", "- ", "# ", "---", "===", "\t"]
TEXTS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join)
FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def shown(markdown: str, kind: str) -> str:
    """Return what the only block of a document shows; markup within it is an error."""
    made = RENDERER.render(markdown).strip()
    within = re.fullmatch(rf"<{kind}>(.*)</{kind}>", made, re.S)
    assert within and "<" not in within[1], made
    return html.unescape(within[1])


def plain(text: str) -> str:
    return " ".join(printable(text).split())


@given(TEXTS)
@FAST
def test_a_paragraph_shows_its_text(text):
    if plain(text):
        assert shown(paragraph(text), "p") == plain(text)


@given(TEXTS)
@FAST
def test_a_heading_shows_its_text(text):
    if plain(text):
        assert shown(f"# {heading(text)}", "h1") == plain(text)


@given(TEXTS)
@FAST
def test_a_cell_shows_its_text_and_stays_one_cell(text):
    made = RENDERER.render(f"| {inline(text)} | b |\n| --- | --- |\n| {inline(text)} | d |\n")
    cells = [html.unescape(cell) for cell in re.findall(r"<t[hd]>([^<]*)</t[hd]>", made)]
    assert cells == [plain(text), "b", plain(text), "d"], made


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("see https://a.b/c", r"see https\://a.b/c"),
        ("www.a.b", r"www\.a.b"),
        ("a@b.c", r"a\@b.c"),
        ("mailto:x", r"mailto\:x"),
        ("costs $1 or $2", r"costs \$1 or \$2"),
        (":smile:", r"\:smile:"),
        ("R&amp;D, R&D", r"R\&amp;D, R&D"),
        ("mean [1, 2] of 3: yes", "mean [1, 2] of 3: yes"),
        ("red \x1b[31m", "red \N{REPLACEMENT CHARACTER}[31m"),
    ],
)
def test_what_other_renderers_act_on_is_escaped_and_the_rest_is_not(text, written):
    assert inline(text) == written
