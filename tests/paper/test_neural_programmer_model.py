"""The Neural Programmer: oracles, damaged oracles, shared against single choices, gradients, fresh networks."""

import dataclasses

import pytest
import torch
from torch import Tensor

from gradnoise.paper.neural_programmer import TASKS, NeuralProgrammer, TableQuestions
from gradnoise.paper.neural_programmer.exam import right
from gradnoise.paper.neural_programmer.machine.choices import Choices, most_likely
from gradnoise.paper.neural_programmer.machine.definition import choose_one_by_one
from gradnoise.paper.neural_programmer.machine.executor import Tables, compare, pivots, run
from gradnoise.paper.neural_programmer.machine.loss import cell_loss, huber, losses
from gradnoise.paper.neural_programmer.machine.tables import prepared, wanted_cells
from gradnoise.paper.neural_programmer.machine.text_match import text_match
from gradnoise.paper.neural_programmer.problems.examples import Examples, held_out, training
from gradnoise.paper.neural_programmer.problems.grammar import CATEGORIES
from gradnoise.paper.neural_programmer.problems.oracles import as_choices, found_words, program
from gradnoise.paper.neural_programmer.problems.questions import Questions, all_questions, all_templates, categories

DOUBLE = torch.float64


def network(name="single", dim=16, seed=0, **options) -> NeuralProgrammer:
    torch.manual_seed(seed)
    return NeuralProgrammer(TASKS[name], dim, **options).double().eval()


def oracle(name: str) -> Choices:
    """The programs written by hand of all questions."""
    task = TASKS[name]
    a, b, beta = as_choices(task, [program(t) for t in all_templates(task)])
    k = len(a)
    return Choices(a, b, beta, torch.zeros(k, 0), torch.zeros(k, task.longest, 0), torch.zeros(k, 0))


def soft(chosen: Choices, name: str, examples: Examples, match: Tensor | None = None):
    """The soft executor's last state, and its tables, for choices of each example."""
    task = TASKS[name]
    count = all_questions(task).given[examples.template]
    rows = (torch.arange(examples.selected.shape[1]) < examples.rows[:, None]).double()
    match = rows[:, None].expand(-1, 0, -1) if match is None else match
    tables = Tables(examples.cells.double() / 100, rows, examples.numbers.double() / 100, count, match)
    compared = compare(tables, pivots(chosen.numbers, tables), "none")
    return run(chosen.operations, chosen.columns, tables, compared), tables


def picked(chosen: Choices, rows: Tensor) -> Choices:
    return Choices(*(x[rows] for x in chosen))


def loss_of(chosen: Choices, name: str, examples: Examples, delta: float, weight: float) -> Tensor:
    last, tables = soft(chosen, name, examples)
    cells = examples.present[..., None] * tables.rows[:, None]
    wanted = wanted_cells(examples)
    values = torch.tensor([delta, weight], dtype=DOUBLE)
    return losses(last, chosen.columns[:, -1], examples.lookup, examples.scalar.double() / 100, wanted, cells, *values)


# --- oracles ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("part", ["train", "test"])
def test_the_soft_executor_answers_everything_by_oracle_programs(name, part):
    task = TASKS[name]
    chunks = held_out(task, "test", 2, 0) if part == "test" else [training(task, 5000, 0)]
    words = found_words([program(t) for t in all_templates(task)])
    for examples in chunks:
        chosen = picked(oracle(name), examples.template)
        match = None
        if task.text:
            real = torch.arange(examples.selected.shape[1]) < examples.rows[:, None]
            found = torch.gather(words[examples.template], 1, examples.words[:, 0].long())
            match = (found & real)[:, None].double()
        last, _ = soft(chosen, name, examples, match)
        wrong = (last.scalar - examples.scalar.double() / 100).abs() > 1e-9
        assert not (wrong & ~examples.lookup).any()
        look = chosen.columns[:, -1, :, None] * last.lookup[:, None]
        assert torch.equal((look > 0)[examples.lookup], wanted_cells(examples)[examples.lookup])
        assert set(look.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("name", ["single", "five"])
def test_the_exam_gives_the_oracle_full_marks(name):
    task = TASKS[name]
    found = right(network(name), all_questions(task), oracle(name), held_out(task, "test", 2, 0))
    assert found.all() and found.shape == (2, len(all_templates(task)))


def single() -> tuple[Choices, Examples]:
    """Oracle programs of 20,000 training examples of the single column."""
    examples = training(TASKS["single"], 20_000, 0)
    return picked(oracle("single"), examples.template), examples


@pytest.mark.parametrize(
    ("delta", "weight", "pivots_wrong", "nearly", "not_quite"), [(10, 50, 259, 38, 259), (50, 100, 1201, 61, 905)]
)
def test_losses_of_damaged_oracles(delta, weight, pivots_wrong, nearly, not_quite):
    """Both pivots the mean of the numbers; right pivots, but only p on each chosen operation."""
    chosen, examples = single()
    count = all_questions(TASKS["single"]).given[examples.template]
    mean = torch.where(count[:, None, None] == 2, 0.5, chosen.numbers)
    found = loss_of(chosen._replace(numbers=mean), "single", examples, delta, weight).mean()
    assert found.item() == pytest.approx(pivots_wrong, rel=0.1)
    for p, expected in ((0.99, nearly), (0.95, not_quite)):
        blurred = chosen.operations * p + (1 - chosen.operations) * (1 - p) / 8
        found = loss_of(chosen._replace(operations=blurred), "single", examples, delta, weight).mean()
        assert found.item() == pytest.approx(expected, rel=0.1)
    assert loss_of(chosen, "single", examples, delta, weight).max() < 1e-3


def test_wrong_pivots_still_answer_many_questions():
    """Their empty or full answers: why one table for each question says too little."""
    chosen = oracle("single")
    first = torch.zeros_like(chosen.numbers)
    first[..., 0] = 1
    task = TASKS["single"]
    kinds = categories(task)
    found = right(network(), all_questions(task), chosen._replace(numbers=first), held_out(task, "test", 50, 0))
    share = found.double().mean(0)
    assert 0.6 < share.mean() < 0.85
    for category, expected in (("simple", 1.0), ("comparison", 1.0), ("difference", 1.0)):
        assert (share[kinds == CATEGORIES.index(category)] == expected).all()
    logic = share[kinds == CATEGORIES.index("logic")]
    assert logic.min() > 0.3 and logic.max() < 0.8


# --- what is chosen -----------------------------------------------------------------------------------


def test_numbers_of_parameters():
    assert sum(p.numel() for p in NeuralProgrammer(TASKS["single"]).parameters()) == 594_688
    for name in ("five", "text"):
        assert sum(p.numel() for p in NeuralProgrammer(TASKS[name]).parameters()) == pytest.approx(0.56e6, rel=0.02)
    assert all(p.abs().max() <= 0.1 for p in NeuralProgrammer(TASKS["five"]).parameters())


def questions_with_holes(name: str) -> Questions:
    """All questions; where names are not needed some tables lack columns."""
    found = all_questions(TASKS[name])
    present = found.present.clone()
    if name == "five":
        for k, template in enumerate(all_templates(TASKS[name])):
            gone = next((i for i, c in enumerate("ABCDE") if c not in template.columns), None)
            if gone is not None and k % 2:
                present[k, gone] = False
    return found._replace(present=present)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("name", "encoder"), [("single", None), ("five", None), ("text", None), ("five", "full"),
                                               ("text", "plain")])  # fmt: skip
def test_shared_choices_are_those_of_each_question(name, encoder, hard):
    model, questions = network(name, encoder=encoder), questions_with_holes(name)
    with torch.no_grad():
        together, alone = model(questions, hard), choose_one_by_one(model, questions, hard)
    for x, y in zip(together, alone, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together.columns.sum(-1), torch.ones_like(together.columns[..., 0]))
    assert not together.columns[(~questions.present)[:, None].expand_as(together.columns)].any()


@pytest.mark.parametrize("name", ["single", "five", "text"])
def test_shared_choices_have_the_gradients_of_each_question(name):
    model, questions = network(name), all_questions(TASKS[name])
    weights = None
    found = []
    for choose in (model, lambda q: choose_one_by_one(model, q)):
        model.zero_grad()
        parts = [x.flatten(1) for x in choose(questions)]
        weights = weights or [torch.randn_like(x) for x in parts]
        sum((x * w).sum() for x, w in zip(parts, weights, strict=True)).backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for n, gradient in found[1].items():
        torch.testing.assert_close(found[0][n], gradient, rtol=1e-9, atol=1e-9)


def test_padding_changes_nothing():
    for name in ("single", "five"):
        model, questions = network(name), all_questions(TASKS[name])
        short = questions.length <= 3
        cut = Questions(*(x[short] for x in questions))
        with torch.no_grad():
            padded, bare = model(cut), model(cut._replace(tokens=cut.tokens[:, :3]))
        for x, y in zip(padded[:3], bare[:3], strict=True):
            torch.testing.assert_close(x, y)


def test_choices_of_examples_are_gathered_exactly():
    model = network("text")
    with torch.no_grad():
        chosen = model(all_questions(TASKS["text"]))
    index = torch.tensor([5, 0, 5, 1189])
    for x, y in zip(chosen.gathered(index), chosen, strict=True):
        assert torch.equal(x, y[index])


def test_permuted_names_give_permuted_columns():
    """Letters exchanged in the question and in the table: the same program with the columns exchanged."""
    model, task = network("five"), TASKS["five"]
    known = all_templates(task)
    swap = {"A": "C", "C": "A"}

    def other(template):
        conditions = tuple(dataclasses.replace(c, column=swap.get(c.column, c.column)) for c in template.conditions)
        targets = tuple(dataclasses.replace(x, column=swap.get(x.column, x.column)) for x in template.targets)
        return dataclasses.replace(template, conditions=conditions, targets=targets)

    place = torch.tensor([known.index(other(t)) for t in known])
    order = torch.tensor([2, 1, 0, 3, 4])
    exchanged = network("five")
    with torch.no_grad():
        first = task.token["A"]
        exchanged.words[first : first + 5] = model.words[first : first + 5][order]
        a, b = model(all_questions(task)), exchanged(all_questions(task))
    torch.testing.assert_close(b.operations[place], a.operations)
    torch.testing.assert_close(b.columns[place], a.columns[..., order])


def test_the_first_of_equal_choices_is_taken():
    assert most_likely(torch.tensor([[0.2, 0.4, 0.4], [0.5, 0.5, 0.0]])).tolist() == [[0, 1, 0], [1, 0, 0]]


# --- execution ----------------------------------------------------------------------------------------


def test_padded_tables_are_as_bare_ones():
    chosen, examples = single()
    few = 200
    chosen = picked(chosen, torch.arange(few))
    chosen = chosen._replace(operations=torch.rand(few, 4, 9, generator=torch.Generator().manual_seed(0)).double())
    examples = Examples(*(x[:few] for x in examples))
    together, _ = soft(chosen, "single", examples)
    for i in range(0, few, 17):
        m = int(examples.rows[i])
        one = Examples(*(x[i : i + 1] for x in examples))
        bare = one._replace(cells=one.cells[..., :m], selected=one.selected[:, :m])
        alone, _ = soft(picked(chosen, torch.tensor([i])), "single", bare)
        torch.testing.assert_close(together.scalar[i], alone.scalar[0])
        torch.testing.assert_close(together.lookup[i, :m], alone.lookup[0])
        assert not together.lookup[i, m:].any()


def test_a_question_without_numbers_compares_with_minus_one():
    tables = Tables(torch.zeros(3, 1, 2), torch.ones(3, 2), torch.tensor([[5.0, 0], [5, 9], [0, 0]]),
                    torch.tensor([1, 2, 0]), torch.ones(3, 0, 2))  # fmt: skip
    beta = torch.tensor([[[1.0, 0], [1, 0]], [[0.25, 0.75], [1, 0]], [[1, 0], [1, 0]]])
    assert pivots(beta, tables).tolist() == [[5, 5], [8, 5], [-1, -1]]


def test_text_match_by_its_formulas():
    model, task = network("text", dim=6), TASKS["text"]
    questions = all_questions(task)
    examples = Examples(*(x[[100, 700, 1100]] for x in held_out(task, "test", 1, 0)[0]))
    rows = torch.ones(3, 120, dtype=DOUBLE)
    rows[1, 70:] = 0
    with torch.no_grad():
        chosen = picked(model(questions), examples.template)
        found = text_match(model.column_names()[:1], model.cell_words(), chosen, examples.words, rows)
        for i, template in enumerate(examples.template.tolist()):
            m = int(rows[i].sum())
            q, z = chosen.question[i], chosen.states[i, : questions.length[template]]
            a = torch.stack([model.words[task.token[f"word:{w}"]] for w in examples.words[i, 0, :m].tolist()])
            d = ((a @ q).sigmoid()[:, None] * a).mean(0)
            e = d + model.words[task.token["A"]]
            g = (z @ e).softmax(0) @ z
            torch.testing.assert_close(found[i, 0, :m], (a @ g).sigmoid())
            assert not found[i, 0, m:].any()


# --- the loss and its gradients -----------------------------------------------------------------------


def test_huber_and_cell_loss():
    delta = torch.tensor(10.0)
    assert huber(torch.tensor([0.0, 4, -10, 30]), delta).tolist() == [0, 8, 50, 250]
    lookup = torch.tensor([[0.9, 0.2, 0.5]], requires_grad=True)
    columns, cells = torch.tensor([[1.0, 0.0]]), torch.tensor([[[1.0, 1, 0], [1, 1, 0]]])
    wanted = torch.tensor([[[True, False, False], [False, False, False]]])
    expected = -(torch.tensor([0.9, 0.8]).log().sum()) / 4
    assert cell_loss(lookup, columns, wanted, cells).item() == pytest.approx(expected.item(), abs=1e-5)


def test_certain_cells_have_finite_losses_and_gradients():
    lookup = torch.tensor([[1.0, 1.0 + 1e-7, 0.0, 0.0]], requires_grad=True)
    cells = torch.ones(1, 1, 4)
    wanted = torch.tensor([[[True, False, True, False]]])
    found = cell_loss(lookup, torch.ones(1, 1), wanted, cells)
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(lookup.grad).all() and lookup.grad[0, 2] < 0


def minibatch(name: str, n=12):
    experiment = TableQuestions()
    config = experiment.Config(task=name, dim=6, batch_size=n, examples=600)
    settings = {"delta": torch.tensor(10.0).double(), "weight": torch.tensor(50.0).double()}
    return experiment, config, (experiment.batch(0, 0, config), settings)


@pytest.mark.parametrize("name", TASKS)
def test_gradients_are_those_of_finite_differences(name):
    experiment, config, batch = minibatch(name)
    model = network(name, dim=6, seed=3).train()
    loss = experiment.loss(model, batch, config)
    loss.backward()
    g = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        with torch.no_grad():
            direction = torch.randn(parameter.shape, generator=g, dtype=DOUBLE)
            ends = []
            for step in (1e-6, -1e-6):
                parameter += step * direction
                ends.append(experiment.loss(model, batch, config).item())
                parameter -= step * direction
        expected = (ends[0] - ends[1]) / 2e-6
        assert (parameter.grad * direction).sum().item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("gradient", "has_one"), [("none", False), ("ste", True)])
def test_the_attention_to_numbers_learns_through_the_surrogate_alone(gradient, has_one):
    questions, index, examples = minibatch("single", 50)[2][0]
    model = network()
    chosen = Choices(*(x.detach() for x in model(questions).gathered(index)))
    beta = chosen.numbers.clone().requires_grad_()
    tables, compared = prepared(model, chosen._replace(numbers=beta), examples, questions.given[index], gradient)
    last = run(chosen.operations, chosen.columns, tables, compared)
    if has_one:
        last.scalar.sum().backward()
        two = questions.given[index] == 2
        assert beta.grad[two].abs().sum() > 0
    else:
        assert not compared.greater.requires_grad and not last.scalar.requires_grad


def test_a_single_column_has_nothing_to_choose():
    experiment, config, batch = minibatch("single")
    model = network(dim=6).train()
    experiment.loss(model, batch, config).backward()
    for parameter in model.select_column.parameters():
        assert parameter.grad is not None and not parameter.grad.any()


# --- fresh networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fresh_network_is_at_chance(seed):
    model, task = network(dim=256, seed=seed), TASKS["single"]
    questions = all_questions(task)
    with torch.no_grad():
        chosen = model(questions)
        hard = right(model, questions, model(questions, hard=True), held_out(task, "test", 50, 0))
    assert chosen.operations.min() > 0.07 and chosen.operations.max() < 0.16
    two = questions.given == 2
    assert (chosen.numbers[two] - 0.5).abs().max() < 0.08
    assert hard.double().mean() < 0.05
    examples = training(task, 20_000, 0)
    mine = picked(chosen, examples.template)
    for delta, expected in ((10, 3520), (25, 8626), (50, 16718)):
        found = loss_of(mine, "single", examples, delta, 1.0)
        assert found[~examples.lookup].mean().item() == pytest.approx(expected, rel=0.05)
    assert found[examples.lookup].mean().item() == pytest.approx(2.36, rel=0.1)
