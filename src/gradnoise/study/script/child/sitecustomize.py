"""Runs when Python starts in a run of `gradnoise compare`, whose PYTHONPATH has this folder first.

It imports nothing heavy and nothing of the package, since the run may have a Python of its own; then it hands over to
the `sitecustomize` that it stands before, if there is one.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))


def _hand_over():
    places = [place for place in sys.path if os.path.abspath(place or os.curdir) != _HERE]
    for finder in sys.meta_path:
        spec = finder.find_spec("sitecustomize", places)
        if spec is not None and spec.loader is not None:
            from importlib.util import module_from_spec

            module = module_from_spec(spec)
            sys.modules["sitecustomize"] = module
            spec.loader.exec_module(module)
            return


if os.environ.get("GRADNOISE_RECORDS"):
    import gradnoise_hook  # pyright: ignore
    import gradnoise_loaded  # pyright: ignore

    gradnoise_loaded.install()
    gradnoise_hook.install()
_hand_over()
