"""What the kernel's functions work on: tuples that Numba takes, and the letters that they share.

P replicas, B machines of each, T time steps; R registers, M cells, H units, Q modules in a step, L logits of all
choices. Machines go `lanes.WIDTH` at a time, a block; all arrays are flat float32, and those of a block count in
vectors of one number a machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Kinds of controllers, by the name that a controller carries.
LSTM, MLP = 0, 1
KINDS = {"lstm": LSTM, "mlp": MLP}


class Shape(NamedTuple):
    """Sizes.

    Args:
        kind: of the controller, one of `KINDS`.
        registers, cells, units, logits: R, M, H, L.
        writes: how many of the Q modules write to the memory.
        renormalise: whether distributions are divided by their sums.
        steps, replicas, batch: T, P, B.
        output, outputs: the first cell that is returned, and how many are.
    """

    kind: int
    registers: int
    cells: int
    units: int
    logits: int
    writes: int
    renormalise: bool
    steps: int
    replicas: int
    batch: int
    output: int
    outputs: int


class Wires(NamedTuple):
    """The modules of a step in order, and their choices.

    Args:
        codes, arities, drifting, constants: of each module [Q], see `modules_table`; -1 for no constant.
        first: where the logits of each choice begin: the arguments in module order, then the new registers.
    """

    codes: np.ndarray
    arities: np.ndarray
    drifting: np.ndarray
    constants: np.ndarray
    first: np.ndarray


class Run(NamedTuple):
    """What goes out of a run, or the gradients of it.

    Args:
        stop: f_t, probabilities to stop [P, B, T].
        answers: the output cells after each step [P, B, T, outputs, M].
        entropy: of all choices of each step [P, B, T].
    """

    stop: np.ndarray
    answers: np.ndarray
    entropy: np.ndarray


class Block(NamedTuple):
    """Room for a block on the way forward; the letters are those of the functions that take it apart.

    Args:
        z: logits of all choices [L], replaced by log weights; then that to stop.
        w: weights of all choices [L].
        x: sources [(R + Q) M], the registers first.
        a: arguments of the modules [.. M], in the order of the choices.
        v: memory [(writes + 1) M M], one version after another.
        y: new registers [R M].
        q: what the controller works on, see `controllers`.
        e: entropy [1].
    """

    z: np.ndarray
    w: np.ndarray
    x: np.ndarray
    a: np.ndarray
    v: np.ndarray
    y: np.ndarray
    q: np.ndarray
    e: np.ndarray


class Gradients(NamedTuple):
    """Room for a block on the way back.

    Args:
        d: gradients of what each choice chose [.. M].
        g: of the output of the module at hand [M].
        x: of the registers [R M].
        v: of the memory [M M].
        q: of what the controller works on.
        left, right: a layer's gradients and its inputs with one machine to a row.
    """

    d: np.ndarray
    g: np.ndarray
    x: np.ndarray
    v: np.ndarray
    q: np.ndarray
    left: np.ndarray
    right: np.ndarray


class Layer(NamedTuple):
    """A linear layer: where its weights, inputs and outputs lie.

    Args:
        at: where its matrix [outputs, inputs] begins; its bias follows.
        inputs, outputs: how many.
        x, y: number of the first input and output vector in the arrays that the layer is given.
    """

    at: int
    inputs: int
    outputs: int
    x: int
    y: int
