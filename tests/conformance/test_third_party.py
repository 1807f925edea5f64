"""Situations of test_silence with the libraries in which users meet them: `pip install 'gradnoise[conformance]'`."""

import importlib.util
import logging
import sys
from pathlib import Path

import pytest
import torch
from support.loop import SEED, noise_of
from torch import nn

from gradnoise import Fixed, attach

LARGE = 100.0  # gradients of a hundred times the noise, so that nothing is said about the dose


def library(name):
    """A library, or a reason to skip."""
    try:
        return pytest.importorskip(name, reason="pip install 'gradnoise[conformance]'", exc_type=ImportError)
    except (RuntimeError, AttributeError) as error:  # does not fit the torch that is here
        pytest.skip(f"{name} cannot be imported here: {error}")


def file_of(package, path):
    """A module of a package that is not imported as a whole, since that would need what is not at hand."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{package} is not installed: pip install 'gradnoise[conformance]'")
    name = f"{package}_{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, Path(found.submodule_search_locations[0]) / path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(seed=0):
    """A model with matrices and a vector, and its loss."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    return model, lambda: LARGE * model(x).square().mean()


def closing(model, loss):
    def closure():
        model.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def twins(make, update, steps=3):
    """Noise that each of `steps` updates added, by parameter: what the update saw less what it sees without noise.

    The run without noise is put at the same weights before every update, so that its gradients are the same.
    """
    (noisy, loss), (plain, plain_loss) = small(), small()
    mine, other = make(noisy), make(plain)
    noise = attach(mine, Fixed(1.0), seed=SEED, named_parameters=noisy.named_parameters())
    found = []
    for _ in range(steps):
        with torch.no_grad():
            for p, q in zip(plain.parameters(), noisy.parameters(), strict=True):
                p.copy_(q)
        update(mine, noisy, loss)
        update(other, plain, plain_loss)
        found.append(
            {n: p.grad - q.grad for (n, p), q in zip(noisy.named_parameters(), plain.parameters(), strict=True)}
        )
    return noise, found


def check_noise(noise, found):
    """Every update has the noise that its number and the parameters' names decide, once."""
    assert noise.step == len(found)
    for t, by_name in enumerate(found):
        for name, difference in by_name.items():
            assert torch.allclose(difference, noise_of(name, t, 1.0, difference.shape), atol=1e-3), (t, name)


# --- the update does not come through the hooked step ---------------------------------------------------


def by_closure(optimizer, model, loss):
    optimizer.step(closing(model, loss))


def after_a_pass(optimizer, model, loss):
    closure = closing(model, loss)
    closure()
    optimizer.step(closure)


def by_hand(optimizer, model, loss):
    closure = closing(model, loss)
    closure()
    optimizer.first_step(zero_grad=True)
    closure()
    optimizer.second_step()


@pytest.mark.parametrize("update", [by_hand, after_a_pass])
@pytest.mark.parametrize("name", ["SAM", "WSAM", "LookSAM", "FriendlySAM"])
def test_pytorch_optimizers_sharpness_aware_minimisation(name, update):
    kind = getattr(library("pytorch_optimizer"), name)

    def make(model):
        first = (model,) if name == "WSAM" else ()
        options = {"base_optimizer": torch.optim.SGD, "lr": 1e-3} | ({"max_norm": None} if name == "WSAM" else {})
        return kind(*first, model.parameters(), **options)

    steps = 1 if name in ("LookSAM", "FriendlySAM") else 3  # they keep directions from one update to the next
    noise, found = twins(make, update, steps)
    check_noise(noise, found)
    assert type(noise.optimizer) is torch.optim.SGD


def test_sam_pytorch():
    kind = library("sam").SAM
    with pytest.warns(UserWarning, match=r"state_dict\(\) of SAM does not keep the clock"):
        noise, found = twins(lambda m: kind(m.parameters(), torch.optim.SGD(m.parameters(), lr=1e-3)), by_closure)
    check_noise(noise, found)


def plainly(optimizer, model, loss):
    closing(model, loss)()
    optimizer.step()


def lookahead_of_timm(model):
    return file_of("timm", "optim/lookahead.py").Lookahead(torch.optim.SGD(model.parameters(), lr=1e-3), k=2)


def lookahead_of_torch_optimizer(model):
    return library("torch_optimizer").Lookahead(torch.optim.SGD(model.parameters(), lr=1e-3), k=2)


def wrapper_of_pytorch_optimizer(name):
    def make(model):
        return getattr(library("pytorch_optimizer"), name)(torch.optim.SGD(model.parameters(), lr=1e-3))

    return make


@pytest.mark.parametrize(
    "make",
    [lookahead_of_timm, lookahead_of_torch_optimizer]
    + [wrapper_of_pytorch_optimizer(name) for name in ("Lookahead", "PCGrad", "TRAC", "OrthoGrad", "Magma")],
)
@pytest.mark.parametrize("update", [plainly, by_closure])
def test_optimizers_that_drive_another_one(make, update):
    check_noise(*twins(make, update))


@pytest.mark.parametrize("kind", ["SGDScheduleFree", "ScheduleFreeWrapper"])
def test_schedule_free(kind):
    schedulefree = library("schedulefree")

    def make(model):
        if kind == "ScheduleFreeWrapper":
            optimizer = schedulefree.ScheduleFreeWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
        else:
            optimizer = getattr(schedulefree, kind)(model.parameters(), lr=1e-3)
        optimizer.train()
        return optimizer

    check_noise(*twins(make, plainly))


def test_lomo_updates_within_the_backward_pass():
    model, loss = small()
    optimizer = library("lomo_optim").Lomo(model, lr=1e-4)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters())
    with pytest.warns(UserWarning, match=r"parameters change from one backward pass to the next, but Lomo.step"):
        for _ in range(6):
            optimizer.fused_backward(loss(), 1e-4)
    assert noise.step == 0


def test_gradient_release_of_optimi_is_one_update_for_each_backward_pass():
    optimi = library("optimi")
    model, loss = small()
    optimizer = optimi.SGD(model.parameters(), lr=0.0, gradient_release=True)
    optimi.prepare_for_gradient_release(model, optimizer)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters())
    for t in range(3):
        loss().backward()
        assert noise.step == t + 1


def test_the_wrapper_of_mmengine_clips_and_steps():
    wrapper = library("mmengine.optim").OptimWrapper
    logging.getLogger("mmengine").setLevel(logging.ERROR)

    def make(model):
        return wrapper(torch.optim.SGD(model.parameters(), lr=1e-3), clip_grad={"max_norm": 20.0})

    check_noise(*twins(make, lambda optimizer, model, loss: (closing(model, loss)(), optimizer.step())))


# --- noise goes where it is undone ----------------------------------------------------------------------


def lamb(model):
    return library("pytorch_optimizer").Lamb(model.parameters())


def adafactor_of_transformers(model):
    kind = library("transformers.optimization").Adafactor
    return kind(model.parameters(), lr=1e-3, relative_step=False, scale_parameter=False)


def came(model):
    return library("came_pytorch").CAME(model.parameters(), lr=1e-3)


@pytest.mark.parametrize(
    "make, option",
    [(lamb, "max_grad_norm=1.0"), (adafactor_of_transformers, "clip_threshold=1.0"), (came, "clip_threshold=1.0")],
)
def test_optimizers_that_clip_by_default(make, option):
    model, _ = small()
    with pytest.warns(UserWarning, match=f"has {option}: it clips within its step, after the noise"):
        attach(make(model), Fixed(1.0), seed=SEED)


# --- the clock ------------------------------------------------------------------------------------------


def titan(model, **groups):
    optimizers = library("torchtitan.components.optimizer")
    patterns = groups or {".*": 1e-3}
    config = optimizers.OptimizersContainer.Config(
        param_groups=[
            optimizers.ParamGroupConfig(pattern=pattern, optimizer_name=name, optimizer_kwargs={"lr": 1e-3})
            for pattern, name in patterns.items()
        ],
        implementation="for-loop",
    )
    return optimizers.OptimizersContainer(config, model_parts=[model])


def test_the_container_of_torchtitan_with_one_optimizer():
    noise, found = twins(lambda m: titan(m, **{".*": "AdamW"}), plainly)
    check_noise(noise, found)
    assert type(noise.optimizer) is torch.optim.AdamW


def test_the_container_of_torchtitan_with_two_optimizers_does_not_save_its_groups():
    model, loss = small()
    container = titan(model, **{"weight": "AdamW", "bias": "Adam"})
    with pytest.warns(UserWarning, match=r"state_dict\(\) of OptimizersContainer does not keep the clock"):
        noise = attach(container, Fixed(1.0), seed=SEED)
    plainly(container, model, loss)
    assert noise.step == 1


def sam_of_pytorch_optimizer(model):
    return library("pytorch_optimizer").SAM(model.parameters(), base_optimizer=torch.optim.SGD, lr=1e-3)


@pytest.mark.parametrize(
    "make", [lookahead_of_timm, wrapper_of_pytorch_optimizer("Lookahead"), sam_of_pytorch_optimizer]
)
def test_checkpoints_of_wrappers_bring_the_clock_back(make):
    model, loss = small()
    optimizer = make(model)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    for _ in range(3):
        after_a_pass(optimizer, model, loss)
    state = optimizer.state_dict()
    model, loss = small()
    again = make(model)
    resumed = attach(again, Fixed(1.0), seed=SEED)
    again.load_state_dict(state)
    assert resumed.step == noise.step == 3


# --- every other one ------------------------------------------------------------------------------------

#: What takes more than parameters: a model, other optimizers, a GPU, curvature; or updates itself in other ways.
SPECIAL = {
    "SAM", "GSAM", "WSAM", "BSAM", "LookSAM", "FriendlySAM", "Lookahead", "PCGrad", "TRAC", "OrthoGrad", "Magma",
    "ScheduleFreeWrapper", "SafeFP16Optimizer", "LOMO", "AdaLOMO", "Lomo", "AdaLomo",
}  # fmt: skip


def optimizers_of(name):
    library_ = library(name)
    kinds = {n: k for n, k in vars(library_).items() if isinstance(k, type) and issubclass(k, torch.optim.Optimizer)}
    return {n: k for n, k in kinds.items() if n not in SPECIAL and k.__module__.startswith(name)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["pytorch_optimizer", "torch_optimizer", "schedulefree", "optimi", "dadaptation", "prodigyopt", "madgrad"]
)
def test_all_optimizers_of_a_library_get_noise_once(name):
    """The first update counts, and differs from one without noise in weights or in the gradients that are left."""
    tried = 0
    for kind in optimizers_of(name).values():
        (noisy, loss), (plain, plain_loss) = small(), small()
        try:
            optimizers = [kind(model.parameters(), lr=1e-3) for model in (noisy, plain)]
            for optimizer in optimizers:
                getattr(optimizer, "train", lambda: None)()
            by_closure(optimizers[1], plain, plain_loss)
        except Exception:
            continue  # needs more than parameters and a closure, with noise or without
        noise = attach(optimizers[0], Fixed(1.0), seed=SEED, named_parameters=noisy.named_parameters())
        by_closure(optimizers[0], noisy, loss)
        assert noise.step == 1, kind
        pairs = list(zip(noisy.parameters(), plain.parameters(), strict=True))
        assert not all(torch.equal(p, q) and torch.equal(p.grad, q.grad) for p, q in pairs), kind
        tried += 1
    assert tried
