"""Matplotlib figures as text and bytes: SVG that takes the colours of the page around it, plain SVG, PNG.

Figures are drawn in the light colours below. On a page each of these becomes a CSS variable, so that one
drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

#: CSS variable -> colour on a light page, on a dark page. The arms, baseline first, are told apart by every
#: kind of colour vision (after Okabe and Ito) and have a contrast of at least 4.5 to the page.
PALETTE = {
    "page": ("#ffffff", "#12161b"),
    "ink": ("#1c2127", "#e6e9ed"),
    "muted": ("#606a76", "#98a2b0"),
    "rule": ("#dfe3e8", "#2b323c"),
    "band": ("#eef0f3", "#232a33"),
    "arm-0": ("#5b6675", "#a3adba"),
    "arm-1": ("#0067b1", "#5cb3ff"),
    "arm-2": ("#b84a00", "#ff9a57"),
    "arm-3": ("#00765a", "#3fcfa2"),
    "arm-4": ("#9c3f8b", "#e391d5"),
    "arm-5": ("#7f6400", "#dfc04a"),
    "arm-6": ("#2f353d", "#cdd3da"),
}

PAGE, INK, MUTED, RULE, BAND = (PALETTE[name][0] for name in ("page", "ink", "muted", "rule", "band"))
ARMS = tuple(light for name, (light, _) in PALETTE.items() if name.startswith("arm-"))


#: Arms that have a colour of their own. All others share the last colour and have their name beside what is drawn.
TOLD_APART = len(ARMS) - 1


def arm_slot(index: int) -> int:
    """Return which of `ARMS` the arm with this index has: the first for the baseline, the last for all beyond."""
    return min(index, TOLD_APART)


def themed_svg(figure: Figure, slug: str, label: str) -> str:
    """Render a figure as an <svg> element for the page, without any reference outside itself.

    Args:
        figure: drawn in the light colours of `PALETTE`; black becomes the colour of the text around it.
        slug: prefix of its ids, so that figures on one page do not clash: letters, digits, dashes.
        label: what a screen reader says.
    """
    text = _render(figure, "svg", slug, transparent=True).decode()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"font: [^;\"]*?([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*"', "", body)
    body = re.sub(r'(?<= [xy]=")-?\d+\.\d+', lambda match: f"{float(match[0]):.1f}", body)
    body = re.sub(r'(?<= d=")[^"]*', lambda match: _compact(match[0]), _own_ids(body, slug))
    for name, (light, _) in PALETTE.items():
        body = body.replace(light, f"var(--{name})")
    body = re.sub(r"\s*\n\s*", "\n", body.replace("#000000", "currentColor"))
    view = re.search(r'viewBox="[^"]*"', text)
    return f'<svg {view[0] if view else ""} role="img" aria-label="{escape(label)}">{body}'


def plain_svg(figure: Figure, slug: str) -> bytes:
    """Render a figure as an SVG file on white: for papers and programs that know no CSS."""
    return _render(figure, "svg", slug)


def png(figure: Figure) -> bytes:
    """Render a figure as a PNG file on white, 200 dots an inch."""
    return _render(figure, "png", "", dpi=200)


def _render(figure: Figure, kind: str, salt: str, **options: Any) -> bytes:
    # Ids come from the salt, and nothing tells the date or the version: the same figure gives the same bytes.
    file = io.BytesIO()
    fields = ("Date", "Creator", "Format", "Type") if kind == "svg" else ("Software",)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(file, format=kind, metadata=dict.fromkeys(fields), **options)
    return file.getvalue()


def _own_ids(body: str, slug: str) -> str:
    """Prefix the ids that something refers to, and drop the others."""
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{slug}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r"url\(#([\w.-]+)\)", rf"url(#{slug}-\1)", body)
    return re.sub(r'xlink:href="#([\w.-]+)"', rf'href="#{slug}-\1"', body)


def _compact(path: str) -> str:
    """Round a path to a tenth of a unit (of some 330 to the figure), small shapes to a thousandth."""
    digits = 1 if len(path) > 400 else 3
    path = re.sub(r"-?\d+\.\d+", lambda m: f"{round(float(m[0]), digits):g}", path)
    return re.sub(r"\s*\n\s*", "", path.strip())
