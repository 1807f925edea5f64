"""Steps under torch.compile: the hooks run as plain Python between compiled pieces."""

import shutil

import pytest
import torch
from support.loop import (
    SCHEDULE,
    SEED,
    CallsItsGrandparent,
    CallsItsParent,
    loss_of,
    make_model,
    promised,
    train,
    values,
)

from gradnoise import attach

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler itself warns of this and that


OPTIMIZERS = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "calls its parent": CallsItsParent,
    "calls its grandparent": CallsItsGrandparent,
}


def step(backend, optimizer, backward):
    compiled = torch.compile(optimizer.step, backend=backend)

    def update(k):
        backward(k)
        compiled()

    return update


def whole(backend, optimizer, backward):
    @torch.compile(backend=backend)
    def update(k):
        backward(k)
        optimizer.step()

    return update


def with_closure(backend, optimizer, backward):
    @torch.compile(backend=backend)
    def update(k):
        optimizer.step(lambda: backward(k))

    return update


@pytest.fixture(autouse=True)
def forget_compiled_code():
    yield
    torch._dynamo.reset()


def train_both(cls, compiled, backend):
    ours, plain = make_model(torch.float64), make_model(torch.float64)
    optimizer, expected = cls(ours.parameters(), lr=0.1), cls(plain.parameters(), lr=0.1)
    noise, _ = (
        attach(o, SCHEDULE, seed=SEED, named_parameters=model.named_parameters())
        for o, model in ((optimizer, ours), (expected, plain))
    )

    def backward(k):
        optimizer.zero_grad()
        loss = loss_of(ours, k)
        loss.backward()
        return loss

    update = compiled(backend, optimizer, backward)
    for k in range(3):
        update(k)
        assert noise.step == k + 1
    train(plain, expected, 3)
    # Compiled, Adam corrects its bias in float32.
    torch.testing.assert_close(values(ours), values(plain), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compiled", [step, whole, with_closure])
@pytest.mark.parametrize("cls", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_update_gets_its_noise_once(cls, compiled):
    """Compile with the backend "eager", which captures the program as every backend does and runs it as it stands."""
    train_both(cls, compiled, "eager")


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile on a CPU needs a C++ compiler"
)
@pytest.mark.parametrize("cls, compiled", [(torch.optim.Adam, step), (CallsItsParent, whole)])
def test_compiled_to_machine_code(cls, compiled):
    train_both(cls, compiled, "inductor")


def sgd():
    p = torch.nn.Parameter(torch.zeros(5))
    p.grad = torch.zeros(5)
    return p, torch.optim.SGD([p], lr=1.0)


def test_two_steps_in_one_compiled_function_are_two_updates():
    p, optimizer = sgd()
    noise = attach(optimizer, SCHEDULE, seed=SEED)

    @torch.compile(backend="eager")
    def update():
        optimizer.step()
        optimizer.step()

    update()
    assert noise.step == 2
    assert torch.equal(p.grad, promised("0.0", 0, p) + promised("0.0", 1, p))


def test_a_step_that_was_compiled_before_gets_noise_too():
    p, optimizer = sgd()
    compiled = torch.compile(optimizer.step, backend="eager")
    compiled()
    noise = attach(optimizer, SCHEDULE, seed=SEED)
    compiled()
    assert torch.equal(p.grad, promised("0.0", 0, p)) and noise.step == 1
    noise.detach()
    compiled()
    assert torch.equal(p.grad, promised("0.0", 0, p))


def test_a_step_that_must_be_one_graph_is_refused_not_silenced():
    _, optimizer = sgd()
    attach(optimizer, SCHEDULE, seed=SEED)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(optimizer.step, backend="eager", fullgraph=True)()
