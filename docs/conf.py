import re
from importlib.metadata import version as installed_version

from docutils import nodes
from latex2mathml.converter import convert

project = "gradnoise"
author = "The gradnoise maintainers"
copyright = "2025, The gradnoise maintainers"
release = installed_version("gradnoise")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True}
autodoc_mock_imports = ["lightning", "pytorch_lightning", "transformers"]  # their callbacks are base classes of ours
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
default_role = "literal"  # names in docstrings stand in single backticks
napoleon_google_docstring = True
napoleon_numpy_docstring = False

highlight_language = "none"  # of blocks that name no language, such as commands and trees

html_theme = "furo"
html_title = f"gradnoise {release}"

# Formulas are MathML, made when the pages are built: a browser shows them without a script and without a network.
html_math_renderer = "mathml"


def inline_formula(writer, node):
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed_formula(writer, node):
    writer.body.append(f'<div class="math">{convert(node.astext().strip(), display="block")}</div>')
    raise nodes.SkipNode


def as_it_is_written(app, what, name, obj, options, lines):
    """Norms such as |g| are no substitutions, and what stands before a colon is no type of an attribute."""
    lines[:] = [re.sub(r"\|(?=\S)", r"\\|", line) for line in lines]
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")


def setup(app):
    app.connect("autodoc-process-docstring", as_it_is_written, priority=400)  # before napoleon
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
