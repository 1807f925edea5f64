"""More situations of the kinds in test_silence: what they have in common is looked at, not who made them."""

import gc
import warnings
import weakref

import pytest
import torch
from support.loop import SEED, flat, noise_of
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gradnoise import Fixed, attach

SHAPE = (50,)


def trained(*shapes):
    """Parameters with a loss whose gradient is a hundred times their noise."""
    parameters = [nn.Parameter(torch.ones(shape)) for shape in shapes]
    return *parameters, lambda: sum(100 * (p * p).sum() for p in parameters)


def backward(loss, *parameters):
    for p in parameters:
        p.grad = None
    loss().backward()


# --- the update does not come through the hooked step ---------------------------------------------------

NOT_CALLED = "parameters change from one backward pass to the next, but .*step, before which noise is added, was not"


class Own(torch.optim.SGD):
    """Makes its updates by a method of its own."""

    @torch.no_grad()
    def update(self):
        for p in self.param_groups[0]["params"]:
            p.data.sub_(p.grad, alpha=0.001)


def test_an_update_by_a_method_of_the_optimizers_own():
    p, loss = trained(SHAPE)
    optimizer = Own([p], lr=0.1)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    with pytest.warns(UserWarning, match=NOT_CALLED):
        for _ in range(5):
            backward(loss, p)
            optimizer.update()
    assert noise.step == 0


def test_a_step_that_is_replaced_after_noise_was_attached():
    p, loss = trained(SHAPE)
    optimizer = torch.optim.SGD([p], lr=0.001)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step = Own([p], lr=0.1).update
    with pytest.warns(UserWarning, match=NOT_CALLED):
        for _ in range(5):
            backward(loss, p)
            optimizer.step()


def test_an_optimizer_that_is_made_anew_in_the_middle_of_training():
    p, loss = trained(SHAPE)
    optimizer = torch.optim.SGD([p], lr=0.001)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    for _ in range(3):
        backward(loss, p)
        optimizer.step()
    other = torch.optim.SGD([p], lr=0.001)
    with pytest.warns(UserWarning, match=NOT_CALLED):
        for _ in range(5):
            backward(loss, p)
            other.step()
    assert noise.step == 3


@pytest.mark.filterwarnings("error")
def test_an_optimizer_that_is_made_anew_and_gets_noise_is_no_doubt():
    p, loss = trained(SHAPE)
    optimizers = []
    for _ in range(2):
        optimizers.append(torch.optim.SGD([p], lr=0.001))
        attach(optimizers[-1], Fixed(1.0), seed=SEED)
        for _ in range(5):
            backward(loss, p)
            optimizers[-1].step()


def test_an_update_within_the_backward_pass_by_another_optimizer():
    p, loss = trained(SHAPE)
    optimizer, fused = torch.optim.SGD([p], lr=0.001), torch.optim.SGD([p], lr=0.001)
    attach(optimizer, Fixed(1.0), seed=SEED)

    def update(p):
        fused.step()
        p.grad = None

    p.register_post_accumulate_grad_hook(update)
    with pytest.warns(UserWarning, match=NOT_CALLED):
        for _ in range(5):
            loss().backward()


@pytest.mark.filterwarnings("error")
def test_what_changes_weights_between_steps_is_no_doubt():
    """Accumulation, a perturbation and its undoing, and a line search."""
    p, loss = trained(SHAPE)
    optimizer = torch.optim.SGD([p], lr=0.001)
    attach(optimizer, Fixed(1e-3), seed=SEED)
    for _ in range(3):
        for change in (0.0, 0.1, -0.1):
            loss().backward()
            with torch.no_grad():
                p.add_(change)
        optimizer.step()
        optimizer.zero_grad()
    search = torch.optim.LBFGS([p], line_search_fn="strong_wolfe")
    attach(search, Fixed(1e-3), seed=SEED)

    def closure():
        search.zero_grad()
        value = loss()
        value.backward()
        return value

    search.step(closure)


def test_one_optimizer_whose_steps_within_a_backward_pass_take_a_parameter_each():
    """What optimi calls gradient release: one update of all, not one for each parameter."""
    p, q, loss = trained(SHAPE, SHAPE)
    optimizer = torch.optim.SGD([p, q], lr=0.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    seen = {}

    def release(parameter):
        optimizer.step()
        seen[parameter] = parameter.grad - 200
        parameter.grad = None

    for parameter in (p, q):
        parameter.register_post_accumulate_grad_hook(release)
    for t in range(2):
        loss().backward()
        assert noise.step == t + 1
        for parameter, name in ((p, "0.0"), (q, "0.1")):
            assert torch.allclose(seen[parameter], noise_of(name, t, 1.0, SHAPE), atol=1e-4)


def test_a_wrapper_within_a_wrapper_under_names_of_their_own():
    class Wrap:
        def __init__(self, inner):
            self.mine = inner

        def step(self):
            self.mine.step()

        def zero_grad(self):
            self.mine.zero_grad()

    (p,) = flat(SHAPE)
    outer = Wrap(Wrap(torch.optim.SGD([p], lr=1.0)))
    noise = attach(outer, Fixed(1.0), seed=SEED)
    outer.step()
    assert noise.step == 1 and torch.equal(p.grad, noise_of("0.0", 0, 1.0, SHAPE))


def test_a_wrapper_with_slots_and_one_that_keeps_a_list():
    class Slots:
        __slots__ = ("inner",)

    class Listing:
        def __init__(self, optimizer):
            self.all = [optimizer]

    for make in (Slots, Listing):
        (p,) = flat(SHAPE)
        optimizer = torch.optim.SGD([p], lr=1.0)
        outer = make(optimizer) if make is Listing else Slots()
        if make is Slots:
            outer.inner = optimizer
        assert attach(outer, Fixed(1.0), seed=SEED).optimizer is optimizer


def test_a_wrapper_that_keeps_several_in_a_dictionary_is_not_guessed_at():
    a, b = flat(SHAPE, SHAPE)

    class Both:
        def __init__(self):
            self.optimizers = {"generator": torch.optim.SGD([a]), "critic": torch.optim.SGD([b])}

    with pytest.raises(ValueError, match=r"keeps several optimizers \(optimizers\['critic'\], optimizers\['generator"):
        attach(Both(), Fixed(1.0), seed=SEED)


# --- noise goes where it is undone ----------------------------------------------------------------------


class ClipsItself(torch.optim.Optimizer):
    """Clips in a `step` that is all its own, so that the noise cannot come after the clip."""

    def __init__(self, params, clip=nn.utils.clip_grad_norm_):
        super().__init__(params, {"lr": 1.0})
        self._clip = clip

    @torch.no_grad()
    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        self._clip(parameters, 1.0)
        for p in parameters:
            p.sub_(p.grad)


@pytest.mark.parametrize("clip", [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_])
def test_a_step_of_its_own_that_clips(clip):
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = ClipsItself([p], clip)
    attach(optimizer, Fixed(1.0), seed=SEED)
    p.grad = torch.full(SHAPE, 100.0)
    with pytest.warns(UserWarning, match="ClipsItself clipped gradients after the noise"):
        optimizer.step()


def test_a_hook_that_clips_after_the_noise():
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_([p], 1.0) and None)
    p.grad = torch.full(SHAPE, 100.0)
    with pytest.warns(UserWarning, match="SGD clipped gradients after the noise"):
        optimizer.step()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("after", ["nothing", "zeros", "decay", "rate", "scratch"])
def test_other_changes_of_gradients_are_no_doubt(after):
    class Step(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                if after == "decay":
                    p.grad.add_(p, alpha=0.01)
                p.sub_(p.grad, alpha=0.01)
                if after == "rate":
                    p.grad.mul_(self.param_groups[0]["lr"])
                if after == "scratch":
                    p.grad.div_(p.grad.square().add_(1.0))
                if after == "zeros":
                    p.grad.zero_()

    p = nn.Parameter(torch.ones(SHAPE))
    optimizer = Step([p])
    attach(optimizer, Fixed(1.0), seed=SEED)
    p.grad = torch.full(SHAPE, 100.0)
    optimizer.step()


@pytest.mark.parametrize("option", ["gradient_clipping", "clip", "clipping_threshold", "normalize_gradients"])
def test_options_that_clip_by_whatever_name(option):
    optimizer = torch.optim.SGD(flat(SHAPE))
    optimizer.param_groups[0][option] = 0.5
    with pytest.warns(UserWarning, match=f"SGD has {option}=0.5: it clips within its step"):
        attach(optimizer, Fixed(1.0), seed=SEED)


@pytest.mark.filterwarnings("error")
def test_options_that_do_not_clip_gradients():
    optimizer = torch.optim.SGD(flat(SHAPE))
    optimizer.param_groups[0] |= {"qk_clip_threshold": 100.0, "trust_clip": True, "clip": None, "max_norm": 0.0}
    attach(optimizer, Fixed(1.0), seed=SEED)


# --- the clock ------------------------------------------------------------------------------------------


class Forgetful(torch.optim.SGD):
    """Loads what it knows, and no more."""

    def load_state_dict(self, state):
        for mine, saved in zip(self.param_groups, state["param_groups"], strict=True):
            mine["lr"] = saved["lr"]


class Outer:
    """Saves its own state and not that of the optimizer that it drives."""

    def __init__(self, optimizer):
        self.optimizer, self.calls = optimizer, 0

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Apart(torch.optim.Optimizer):
    """Shares its groups with an inner optimizer until a checkpoint is loaded."""

    def __init__(self, params):
        super().__init__(params, {"lr": 1.0})
        self.inner = torch.optim.SGD(self.param_groups, lr=1.0)
        self.param_groups = self.inner.param_groups


@pytest.mark.parametrize(
    "make, what",
    [
        (lambda p: Forgetful([p], lr=1.0), "load_state_dict.. of Forgetful does not bring back"),
        (lambda p: Outer(torch.optim.SGD([p], lr=1.0)), "state_dict.. of Outer does not keep"),
        (lambda p: Apart([p]), "load_state_dict.. of Apart does not bring back"),
    ],
)
def test_checkpoints_that_lose_the_clock(make, what):
    (p,) = flat(SHAPE)
    optimizer = make(p)
    with pytest.warns(UserWarning, match=what):
        noise = attach(optimizer, Fixed(1.0), seed=SEED)
    assert noise.step == 0, "the trial leaves the optimizer alone"


@pytest.mark.filterwarnings("error")
def test_checkpoints_that_keep_the_clock_in_their_own_way():
    class Nested(Outer):
        def state_dict(self):
            return {"calls": self.calls, "inner": self.optimizer.state_dict()}

        def load_state_dict(self, state):
            self.calls = state["calls"]
            self.optimizer.load_state_dict(state["inner"])

    (p,) = flat(SHAPE)
    optimizer = torch.optim.Adam([p])
    optimizer.step()
    before = optimizer.state_dict()
    outer = Nested(optimizer)
    attach(outer, Fixed(1.0), seed=SEED)
    after = optimizer.state_dict()
    assert outer.optimizer is optimizer and after["state"].keys() == before["state"].keys()
    assert all(torch.equal(after["state"][0][k], x) for k, x in before["state"][0].items())


# --- frozen, replaced, without numbers --------------------------------------------------------------------


def test_what_was_frozen_before_noise_was_attached_gets_none():
    a, b = flat(SHAPE, SHAPE)
    a.requires_grad_(False)
    optimizer = torch.optim.SGD([a, b], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert not a.grad.any() and b.grad.any()
    a.requires_grad_(True)
    optimizer.step()
    assert torch.equal(a.grad, noise_of("0.0", 1, 1.0, SHAPE))


def test_all_frozen_is_no_update():
    (a,) = flat(SHAPE)
    optimizer = torch.optim.SGD([a], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    a.requires_grad_(False)
    with pytest.warns(UserWarning, match="found no gradient"):
        optimizer.step()
    assert noise.step == 0 and not a.grad.any()


def test_a_group_that_is_removed_is_let_go():
    a, b = flat(SHAPE, SHAPE)
    optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    gone = weakref.ref(b)
    optimizer.param_groups.pop()
    del b
    optimizer.step()
    gc.collect()
    assert gone() is None


def test_an_optimizer_is_let_go_while_its_model_lives():
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    gone = weakref.ref(optimizer)
    del optimizer, noise
    gc.collect()
    assert gone() is None
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pytest.mark.parametrize("fake", [True, False])
def test_parameters_that_are_shapes_alone(fake):
    """Estimators of memory step through a training without numbers."""
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else torch.device("meta"):
        model = nn.Linear(3, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        noise = attach(optimizer, Fixed(1.0), seed=SEED)
        model(torch.ones(2, 3)).sum().backward()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer.step()
    assert noise.step == 0


def test_an_optimizer_with_half_of_its_hooks_is_refused():
    class Half(torch.optim.Optimizer):
        """Never ran Optimizer.__init__, but made the hooks of steps, and keeps nothing inside."""

        def __init__(self, params):
            self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}
            self.param_groups, self.state = [{"params": params}], {}

        def step(self, closure=None):
            pass

    with pytest.raises(ValueError, match="noise attaches to a torch"):
        attach(Half(flat(SHAPE)), Fixed(1.0), seed=SEED)
