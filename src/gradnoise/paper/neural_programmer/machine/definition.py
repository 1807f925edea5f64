"""The choices for B questions by their definition, question by question and step by step, with dropout."""

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
from gradnoise.paper.neural_programmer.machine.parameters import STEPS, Parameters, Selector
from gradnoise.paper.neural_programmer.problems.questions import Questions


def choose_one_by_one(model: Parameters, questions: Questions, hard: bool = False) -> Choices:
    """Return the choices of the paper's formulas (sections 3.2 to 3.5 of Neelakantan et al. 2016).

    alpha_op_t = softmax(U tanh(W_op [q; h_t])); alpha_col_t = softmax(P tanh(W_col [q; h_t])) over the columns present;
    h_1 = 0, h_{t+1} = tanh(W_h [U^T alpha_op_t; P^T alpha_col_t; h_t]); beta_op = softmax(Z U(op)).

    Args:
        model: whose parameters; dropout where it has any.
        questions: B of them.
        hard: whether the history sees the most likely choices.
    """
    drops = model.dropouts
    q, z, real = encode_one_by_one(model, questions)
    units = model.operations if drops is None else drops.operations(model.operations)
    names = model.column_names().expand(len(q), -1, -1)
    h = q.new_zeros(len(q), model.operations.shape[1])
    kept = torch.ones_like(h) if drops is None else drops.history(torch.ones_like(h))
    operations, columns = [], []
    for t in range(STEPS):
        o = torch.cat([q, h], 1) @ _whole(model.select_operation).mT
        o = o.tanh() if drops is None else drops.select_operation[t](o.tanh())
        c = (torch.cat([q, h], 1) @ _whole(model.select_column).mT).tanh()[:, None].expand_as(names)
        shown = names
        if drops is not None:
            c, shown = drops.select_column[t](c), drops.columns[t](names)
        a, b = (o @ units.mT).softmax(-1), softmax((c * shown).sum(-1), questions.present)
        operations.append(a)
        columns.append(b)
        if t + 1 < STEPS:
            if hard:
                a, b = most_likely(a), most_likely(b)
            context = torch.cat([a @ units, (b[..., None] * shown).sum(1)], 1)
            if drops is not None:
                context = drops.context[t](context)
            w = torch.cat([model.history.operation, model.history.column, model.history.state], 1)
            h = (torch.cat([context, kept * h], 1) @ w.mT).tanh()
    first = model.task.operations.index("greater")
    beta = number_probabilities(number_logits(z @ units[first : first + 2].mT, questions.left), questions.given)
    if not model.task.text:
        q, z, real = q[:, :0], z[:, :0], real[:, :0]
    return Choices(torch.stack(operations, 1), torch.stack(columns, 1), beta, q, z, real)


def encode_one_by_one(model: Parameters, questions: Questions) -> tuple[Tensor, Tensor, Tensor]:
    """Return q [B, d], the states z [B, Q, d] and 1 for real tokens [B, Q]: z_i = tanh(W [z_{i-1}; V(w_i)])."""
    drops, tokens = model.dropouts, questions.tokens
    one_hot = (tokens[..., None] == torch.arange(len(model.words), device=tokens.device)).to(model.words.dtype)
    x = one_hot @ model.words
    x = x if drops is None else drops.words(x)
    real = torch.arange(tokens.shape[1], device=tokens.device) < questions.length[:, None]
    last, states = [], []
    for i, direction in enumerate(model.layers()):
        w = torch.cat([direction.state, direction.input], 1)
        z = x.new_zeros(len(x), len(w))
        kept = torch.ones_like(z) if drops is None else drops.encoder[i](torch.ones_like(z))
        found = []
        order = range(x.shape[1])
        for k in reversed(order) if i else order:
            z = torch.where(real[:, k, None], (torch.cat([kept * z, x[:, k]], 1) @ w.mT).tanh(), z)
            found.append(z)
        last.append(z)
        states.append(torch.stack(found[::-1] if i else found, 1))
    z = torch.cat(states, -1) if model.encoder == "bidirectional" else states[0]
    return torch.cat(last, -1), z, real.to(x.dtype)


def _whole(selector: Selector) -> Tensor:
    return torch.cat([selector.question, selector.history], 1)
