from importlib.metadata import version as installed_version

project = "gradnoise"
author = "The gradnoise maintainers"
copyright = "2025, The gradnoise maintainers"
release = installed_version("gradnoise")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_mock_imports = ["lightning", "pytorch_lightning", "transformers"]  # their callbacks are base classes of ours
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

highlight_language = "none"  # of blocks that name no language, such as commands and trees

html_theme = "furo"
html_title = f"gradnoise {release}"
