"""The choices for K distinct questions, by exact savings: what is the same for several tokens or steps is done once."""

from __future__ import annotations

import torch
from torch import Tensor

from gradnoise.paper.neural_programmer.machine.choices import (
    Choices,
    most_likely,
    number_logits,
    number_probabilities,
    softmax,
)
from gradnoise.paper.neural_programmer.machine.parameters import STEPS, Parameters, Recurrence
from gradnoise.paper.neural_programmer.problems.questions import Questions


def choose_together(model: Parameters, questions: Questions, hard: bool) -> Choices:
    """Return what `choose_one_by_one` without dropout returns, up to rounding.

    Words are multiplied with the input half of the encoder, q with its part of the selectors, operations and columns
    with their thirds of the history, once each. A single column has probability 1 and needs no product.
    """
    q, z, real = encode(model, questions)
    names, units = model.column_names(), model.operations
    by_operation, by_column = units @ model.history.operation.mT, names @ model.history.column.mT
    q_operation = q @ model.select_operation.question.mT
    q_column = q @ model.select_column.question.mT if len(names) > 1 else q_operation
    certain = _certain(model, q) if len(names) == 1 else None
    h: Tensor | None = None
    operations, columns = [], []
    for _ in range(STEPS):
        operations.append((_hidden(q_operation, model.select_operation.history, h) @ units.mT).softmax(-1))
        columns.append(_columns(model, q_column, h, names, questions.present) if certain is None else certain)
        if len(operations) < STEPS:
            a, b = operations[-1], columns[-1]
            if hard:
                a, b = most_likely(a), most_likely(b)
            into = a @ by_operation + b @ by_column
            h = _hidden(into, model.history.state, h)
    first = model.task.operations.index("greater")
    beta = number_probabilities(number_logits(z @ units[first : first + 2].mT, questions.left), questions.given)
    if not model.task.text:
        q, z, real = q[:, :0], z[:, :0], real[:, :0]
    return Choices(torch.stack(operations, 1), torch.stack(columns, 1), beta, q, z, real)


def _hidden(known: Tensor, weight: Tensor, h: Tensor | None) -> Tensor:
    """Return tanh(known + W h); no h stands for zeros."""
    return (known if h is None else known + h @ weight.mT).tanh()


def _columns(model: Parameters, known: Tensor, h: Tensor | None, names: Tensor, present: Tensor) -> Tensor:
    """Return alpha_col [K, L]."""
    return softmax(_hidden(known, model.select_column.history, h) @ names.mT, present)


def _certain(model: Parameters, q: Tensor) -> Tensor:
    """Return alpha_col [K, 1] of a single column: 1, whatever the weights, which stay part of the loss."""
    selector = model.select_column
    return q.new_ones(len(q), 1) + 0 * (selector.question[0, 0] + selector.history[0, 0])


def encode(model: Parameters, questions: Questions) -> tuple[Tensor, Tensor, Tensor]:
    """Return q [K, d], the states z [K, Q, d] and 1 for real tokens [K, Q]."""
    tokens, length = questions.tokens, questions.length
    words = model.words
    one_hot = (tokens[..., None] == torch.arange(len(words), device=tokens.device)).to(words.dtype)
    real = torch.arange(tokens.shape[1], device=tokens.device) < length[:, None]
    states = [
        run(direction, (one_hot @ (words @ direction.input.mT)).unbind(1), real, backward=bool(i))
        for i, direction in enumerate(model.layers())
    ]
    last = [z[-1] if i == 0 else z[0] for i, z in enumerate(states)]
    shown = states if model.encoder == "bidirectional" else states[:1]
    z = torch.cat([torch.stack(s, 1) for s in shown], -1)
    return torch.cat(last, -1), z, real.to(words.dtype)


def run(layer: Recurrence, inputs: tuple[Tensor, ...], real: Tensor, backward: bool) -> list[Tensor]:
    """Return the states [K, units] of all Q tokens; a token that is padding leaves the state as it was.

    Args:
        layer: whose weights.
        inputs: W_x x_i of each token [K, units].
        real: which tokens are real, bool [K, Q].
        backward: whether the last token is read first.
    """
    z: Tensor | None = None
    found = []
    order = range(len(inputs))
    for i in reversed(order) if backward else order:
        new = _hidden(inputs[i], layer.state, z)
        z = torch.where(real[:, i, None], new, 0 if z is None else z)
        found.append(z)
    return found[::-1] if backward else found
