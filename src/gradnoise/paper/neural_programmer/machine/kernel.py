"""Loss of soft programs and its gradients, example by example: `executor` and `loss` in one pass, compiled by Numba.

Only real rows are looked at: in padding every row selector is zero. Sums may be added in any order, so that they make
vectors; numbers that are not finite stay so.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gradnoise.noise.gaussian import compiled
from gradnoise.paper.neural_programmer.machine.executor import NO_PIVOT, TAU
from gradnoise.paper.neural_programmer.machine.loss import EPS
from gradnoise.paper.neural_programmer.problems.examples import HUNDREDTHS

#: Places in `Task.operations`.
SUM, COUNT, DIFFERENCE, GREATER, LESSER, AND, OR, ASSIGN, RESET, TEXT = range(10)

#: Nothing here allocates, so that references need not be counted: that took most of the time. So would handing over
#: all arrays at every call.
jit = compiled(fastmath={"reassoc", "nsz"}, _nrt=False, forceinline=True)
seldom = compiled(fastmath={"reassoc", "nsz"}, _nrt=False)


class Programs(NamedTuple):
    """What the networks chose for n examples, or where the gradients by it go.

    Args:
        operations: [n, T, O].
        columns: [n, T, L], text columns first.
        numbers: beta [n, 2, 2].
        match: text_match [n, K, M].
    """

    operations: np.ndarray
    columns: np.ndarray
    numbers: np.ndarray
    match: np.ndarray


class Given(NamedTuple):
    """Tables, questions and answers of n examples, see `Examples`; known is how many numbers a question has [n]."""

    cells: np.ndarray
    rows: np.ndarray
    numbers: np.ndarray
    known: np.ndarray
    present: np.ndarray
    lookup: np.ndarray
    scalar: np.ndarray
    selected: np.ndarray
    column: np.ndarray


class Space(NamedTuple):
    """Memory for one example.

    Args:
        x: cells [C, M].
        above, below: x > pivot and x < pivot, zeros and ones [C, M].
        picked: the column that a step looks at [M].
        r: row selectors r_{-1} to r_T [T + 2, M].
        s: numbers s_{-2} to s_T [T + 3].
        by_r, by_s: gradients by r and s.
        by_look: gradient by the lookup [M].
    """

    x: np.ndarray
    above: np.ndarray
    below: np.ndarray
    picked: np.ndarray
    r: np.ndarray
    s: np.ndarray
    by_r: np.ndarray
    by_s: np.ndarray
    by_look: np.ndarray


def space(programs: Programs, given: Given) -> Space:
    """Return memory for an example of these."""
    (_, columns, most), steps = given.cells.shape, programs.operations.shape[1]

    def empty(*shape: int) -> np.ndarray:
        return np.empty(shape, programs.operations.dtype)

    x, above, below = (empty(columns, most) for _ in range(3))
    r, by_r = (empty(steps + 2, most) for _ in range(2))
    s, by_s = (empty(steps + 3) for _ in range(2))
    return Space(x, above, below, empty(most), r, s, by_r, by_s, empty(most))


@seldom
def losses_and_gradients(programs, given, delta, weight, smooth, w, out, by):
    """Write the losses of n examples, and each one's gradients by its program.

    Args:
        programs, given: of the examples.
        delta, weight: of the loss, for each example.
        smooth: whether comparisons have a gradient.
        w: memory.
        out: losses [n].
        by: gradients; zeros before.
    """
    last = programs.operations.shape[1]
    for i in range(out.shape[0]):
        _run(programs, given, w, i)
        w.by_r[:], w.by_s[:] = 0, 0
        if given.lookup[i]:
            out[i] = _lookup(programs, given, w, weight[i], i, by)
        else:
            error = _error(given, w, i)
            out[i] = _huber(error, delta[i])
            w.by_s[last + 2] = _slope(error, delta[i])
        for t in range(last - 1, -1, -1):
            _number_backward(programs, given, w, i, t, by)
            _rows_backward(programs, given, w, smooth, i, t, by)


# --- the program --------------------------------------------------------------------------------------


@jit
def _run(programs, given, w, i):
    """Run the program of example i."""
    a, n, number = programs.operations[i], given.rows[i], w.s.dtype.type
    _compare(programs, given, w, i)
    w.s[:3] = 0
    w.r[:2, :n] = 1
    for t in range(a.shape[0]):
        _pick(programs, w, i, t, n)
        r, before, new = w.r[t + 1], w.r[t], w.r[t + 2]
        total, count = number(0), number(0)
        for m in range(n):
            total += r[m] * w.picked[m]
            count += r[m]
        w.s[t + 3] = a[t, SUM] * total + a[t, COUNT] * count + a[t, DIFFERENCE] * (w.s[t] - w.s[t + 2])
        for m in range(n):
            least, most = (r[m], before[m]) if r[m] < before[m] else (before[m], r[m])
            new[m] = a[t, AND] * least + a[t, OR] * most + a[t, RESET]
        _add_conditions(programs, w, i, t, n)


@jit
def _compare(programs, given, w, i):
    number = w.s.dtype.type
    above, below = _pivot(programs, given, i, 0, number), _pivot(programs, given, i, 1, number)
    for j in range(w.x.shape[0]):
        for m in range(given.rows[i]):
            x = number(given.cells[i, j, m]) / number(HUNDREDTHS)
            w.x[j, m] = x
            w.above[j, m] = number(1) if x > above else number(0)
            w.below[j, m] = number(1) if x < below else number(0)


@jit
def _pivot(programs, given, i, which, number):
    """Return the number that "greater" (0) or "lesser" (1) compares with."""
    if given.known[i] == 0:
        return number(NO_PIVOT)
    beta = programs.numbers[i, which]
    first, second = number(given.numbers[i, 0]), number(given.numbers[i, 1])
    return beta[0] * (first / number(HUNDREDTHS)) + beta[1] * (second / number(HUNDREDTHS))


@jit
def _pick(programs, w, i, t, n):
    """Write the mixture of columns that step t looks at."""
    b, text = programs.columns[i, t], programs.match.shape[1]
    w.picked[:n] = 0
    for j in range(w.x.shape[0]):
        for m in range(n):
            w.picked[m] += b[text + j] * w.x[j, m]


@jit
def _add_conditions(programs, w, i, t, n):
    """Add the rows that "greater", "lesser" and "text match" select at step t."""
    a, b, new, text = programs.operations[i, t], programs.columns[i, t], w.r[t + 2], programs.match.shape[1]
    for j in range(w.x.shape[0]):
        above, below = a[GREATER] * b[text + j], a[LESSER] * b[text + j]
        for m in range(n):
            new[m] += above * w.above[j, m] + below * w.below[j, m]
    for k in range(text):
        matched, match = a[TEXT] * b[k], programs.match[i, k]
        for m in range(n):
            new[m] += matched * match[m]


# --- the loss -----------------------------------------------------------------------------------------


@jit
def _error(given, w, i):
    number = w.s.dtype.type
    return w.s[-1] - number(given.scalar[i]) / number(HUNDREDTHS)


@jit
def _huber(error, delta):
    a = abs(error)
    return a * a / 2 if a <= delta else delta * a - delta * delta / 2


@jit
def _slope(error, delta):
    """Return the derivative of Huber's loss."""
    if abs(error) <= delta:
        return error
    return delta if error > 0 else -delta


@jit
def _lookup(programs, given, w, weight, i, by):
    """Return the loss of a lookup; go back to the last columns, to "assign", and to the rows before the last step."""
    number, n, last = w.s.dtype.type, given.rows[i], programs.operations.shape[1] - 1
    assign, r, chosen = programs.operations[i, last, ASSIGN], w.r[last + 1], programs.columns[i, last]
    columns, found = 0, number(0)
    for j in range(chosen.shape[0]):
        columns += given.present[i, j]
    scale = weight / number(columns * n)
    for j in range(chosen.shape[0]):
        if given.present[i, j]:
            asked, total = j == given.column[i], number(0)
            for m in range(n):
                wanted = asked and given.selected[i, m]
                look = chosen[j] * (assign * r[m])
                rest = number(1) - look
                likely = (look if wanted else max(rest, number(0))) + number(EPS)
                w.by_look[m] = (-scale if wanted else (scale if rest >= 0 else number(0))) / likely
                w.picked[m] = likely
            found += _sum_of_logarithms(w.picked, n)
            for m in range(n):
                total += w.by_look[m] * r[m]
                w.by_r[last + 1, m] += w.by_look[m] * chosen[j] * assign
            by.columns[i, last, j] += total * assign
            by.operations[i, last, ASSIGN] += total * chosen[j]
    return -scale * found


@seldom
def _sum_of_logarithms(x, n):
    """Return the sum of ln x_m; the product of four numbers of at least EPS is still a number."""
    found = np.log(x.dtype.type(1))
    for m in range(n // 4):
        found += np.log((x[4 * m] * x[4 * m + 1]) * (x[4 * m + 2] * x[4 * m + 3]))
    for m in range(n // 4 * 4, n):
        found += np.log(x[m])
    return found


# --- the way back through a step ----------------------------------------------------------------------


@jit
def _number_backward(programs, given, w, i, t, by):
    """Go back from s_t to the choices of step t, to the rows before it, and to s_{t-1} and s_{t-3}."""
    number, n, g, r = w.s.dtype.type, given.rows[i], w.by_s[t + 3], w.r[t + 1]
    if g == 0:
        return
    a, text, by_a = programs.operations[i, t], programs.match.shape[1], by.operations[i, t]
    _pick(programs, w, i, t, n)
    total, count = number(0), number(0)
    for m in range(n):
        total += r[m] * w.picked[m]
        count += r[m]
        w.by_r[t + 1, m] += g * (a[SUM] * w.picked[m] + a[COUNT])
    by_a[SUM] += g * total
    by_a[COUNT] += g * count
    by_a[DIFFERENCE] += g * (w.s[t] - w.s[t + 2])
    w.by_s[t] += g * a[DIFFERENCE]
    w.by_s[t + 2] -= g * a[DIFFERENCE]
    for j in range(w.x.shape[0]):
        seen = number(0)
        for m in range(n):
            seen += r[m] * w.x[j, m]
        by.columns[i, t, text + j] += g * a[SUM] * seen


@jit
def _rows_backward(programs, given, w, smooth, i, t, by):
    """Go back from r_t to the choices of step t and to the rows of the two steps before it."""
    number, n, g, by_last, by_before = w.s.dtype.type, given.rows[i], w.by_r[t + 2], w.by_r[t + 1], w.by_r[t]
    a, r, before, by_a = programs.operations[i, t], w.r[t + 1], w.r[t], by.operations[i, t]
    least, most, every = number(0), number(0), number(0)
    for m in range(n):
        least += g[m] * (r[m] if r[m] < before[m] else before[m])
    for m in range(n):
        most += g[m] * (before[m] if r[m] < before[m] else r[m])
    for m in range(n):
        every += g[m]
    by_a[AND] += least
    by_a[OR] += most
    by_a[RESET] += every
    if_less, if_more, half = a[AND], a[OR], (a[AND] + a[OR]) / number(2)
    for m in range(n):  # of equal ones each has half of the gradient
        by_last[m] += g[m] * (if_less if r[m] < before[m] else (if_more if r[m] > before[m] else half))
    for m in range(n):
        by_before[m] += g[m] * (if_more if r[m] < before[m] else (if_less if r[m] > before[m] else half))
    _conditions_backward(programs, given, w, smooth, i, t, by)


@jit
def _conditions_backward(programs, given, w, smooth, i, t, by):
    number, n, g, text = w.s.dtype.type, given.rows[i], w.by_r[t + 2], programs.match.shape[1]
    a, b, by_a, by_b = programs.operations[i, t], programs.columns[i, t], by.operations[i, t], by.columns[i, t]
    for j in range(w.x.shape[0]):
        above, below = number(0), number(0)
        for m in range(n):
            above += g[m] * w.above[j, m]
            below += g[m] * w.below[j, m]
        by_a[GREATER] += b[text + j] * above
        by_a[LESSER] += b[text + j] * below
        by_b[text + j] += a[GREATER] * above + a[LESSER] * below
        if smooth and given.known[i] > 0:
            _pivot_backward(programs, given, w, a[GREATER] * b[text + j], 0, i, j, t, by)
            _pivot_backward(programs, given, w, -a[LESSER] * b[text + j], 1, i, j, t, by)
    for k in range(text):
        matched, match = number(0), programs.match[i, k]
        for m in range(n):
            matched += g[m] * match[m]
            by.match[i, k, m] += g[m] * a[TEXT] * b[k]
        by_a[TEXT] += b[k] * matched
        by_b[k] += a[TEXT] * matched


@seldom
def _pivot_backward(programs, given, w, scale, which, i, j, t, by):
    """Go back through sigmoid((x - pivot) / tau), which stands for a comparison, to beta."""
    number, g = w.s.dtype.type, w.by_r[t + 2]
    pivot, total = _pivot(programs, given, i, which, number), number(0)
    for m in range(given.rows[i]):
        smooth = number(1) / (number(1) + np.exp((pivot - w.x[j, m]) / number(TAU)))
        total -= g[m] * (smooth - smooth * smooth)
    for k in range(2):
        by.numbers[i, which, k] += scale * total / number(TAU) * (number(given.numbers[i, k]) / number(HUNDREDTHS))
