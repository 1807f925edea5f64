"""What a run of `gradnoise compare` does within the script's process: noise, fingerprints, and a count of updates.

It waits until the script imports torch and then asks torch to be called before each `optimizer.step()`. At the first
update of an optimizer it attaches the noise of the arm, unless the script did so, and writes down what weights and
gradient were before it: equal in two arms, they prove a pair. Nothing here imports the package, save the noise.

The folder of these records, the noise and the number of updates after which to stop come in GRADNOISE_RECORDS,
GRADNOISE_NOISE and GRADNOISE_STOP_AFTER.
"""

import atexit
import os
import sys
import time

OPTIMIZER = "torch.optim.optimizer"
#: Elements of a tensor that enter the hash, and of the gradient that are written down.
PER_TENSOR, SAMPLES = 256, 32
#: Optimizers of a script that are written down.
MOST = 16


def install():
    """Wait for torch; in a process that never trains this costs nothing more."""
    sys.meta_path.insert(0, _Waiting())


class _Waiting:
    """Finds one module, as the finders behind it do, and hooks into it when it is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != OPTIMIZER:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = _Loader(spec.loader)  # pyright: ignore
                return spec
        return None


class _Loader:
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        watch = Watch()
        module.register_optimizer_step_pre_hook(watch.before)
        module.register_optimizer_step_post_hook(watch.after)
        atexit.register(watch.end)


class Watch:
    """Sees every `optimizer.step()` of this process."""

    def __init__(self):
        self.process, self.started = os.getpid(), time.monotonic()
        self.attached, self.seen, self.places = {}, set(), {}
        self.parameters = {}  # by id, those that an optimizer has updated; kept, so that no other one gets their ids
        self.updates, self.first, self.last = 0, 0.0, 0.0
        self.times = []  # of the updates, where the run is to be stopped after some of them
        self.stop_after = int(os.environ.get("GRADNOISE_STOP_AFTER", "0"))

    def before(self, optimizer, args, kwargs):
        """Attach the noise, and look at weights and gradient once there is one."""
        me = id(optimizer)
        if me in self.seen:
            return None
        if me not in self.attached:
            self.attached[me] = optimizer  # kept, so that no other one gets its id
            self.places[me] = len(self.places)
            if os.environ.get("GRADNOISE_NOISE"):
                _attach(optimizer)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            self.look(optimizer)
            return None

        def looked():
            loss = closure()
            if me not in self.seen:
                self.look(optimizer)
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": looked}
        return (args[0], looked, *args[2:]), kwargs

    def look(self, optimizer):
        """Write down what weights and gradient are, unless there is no gradient yet."""
        place, found = self.places[id(optimizer)], {"norm": 1.0}
        parameters = {id(p): p for group in optimizer.param_groups for p in group["params"]}
        fresh = {me for me in parameters if me not in self.parameters}
        if place < MOST and _is_first_rank():
            try:
                found = fingerprint(optimizer, fresh) if fresh else {"norm": 1.0, "again": True}
            except Exception as error:  # an unusual kind of tensor is no reason to end the run
                found = {"norm": 1.0, "problem": f"{type(error).__name__}: {error}"}
        if not found["norm"] and len(fresh) == len(parameters):
            return
        self.seen.add(id(optimizer))
        self.parameters.update(parameters)
        self.first = self.first or time.monotonic()
        if len(found) > 1:
            _append("begin.jsonl", {"optimizer": place, "kind": type(optimizer).__name__, **found, **_noise(optimizer)})

    def after(self, optimizer, args, kwargs):
        """Count the updates of the first optimizer."""
        if self.places.get(id(optimizer)) == 0 and id(optimizer) in self.seen:
            self.updates, self.last = self.updates + 1, time.monotonic()
            if self.stop_after:
                self.times.append(self.last)
            if self.updates == self.stop_after:
                self.end()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)

    def end(self):
        """Write down how many updates were made, and how long they took."""
        if os.getpid() == self.process and self.updates and _is_first_rank():
            gaps = sorted(self.times[i] - self.times[i - 1] for i in range(1, len(self.times)))
            record = {"updates": self.updates, "before": self.first - self.started}
            _append("updates.jsonl", {**record, "each": gaps[len(gaps) // 2] if gaps else None})


def fingerprint(optimizer, fresh):
    """Return hashes of an optimizer's weights and their shapes, and norm, hash and samples of its gradients.

    What an earlier optimizer has moved, perhaps with noise, is left out: of parameters only those count whose ids are
    in `fresh`.
    """
    import hashlib

    import torch

    weights, shapes, gradients = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    square, samples, elements = 0.0, [], 0
    with torch.no_grad():
        for group in optimizer.param_groups:
            for p in (p for p in group["params"] if id(p) in fresh):
                shapes.update(repr((tuple(p.shape), str(p.dtype))).encode())
                weights.update(_bytes(_some(p)))
                if p.grad is None:
                    continue
                some = _some(p.grad)
                gradients.update(_bytes(some))
                values = torch.view_as_real(some) if some.is_complex() else some
                samples += values.flatten()[:: max(1, values.numel() // 8)].double().tolist()
                square += float(torch.linalg.vector_norm(_plain(p.grad).detach()).double()) ** 2
                elements += p.grad.numel()
    return {
        "weights": weights.hexdigest()[:16],
        "shapes": shapes.hexdigest()[:16],
        "gradient": gradients.hexdigest()[:16],
        "norm": square**0.5,
        "samples": samples[:: -(-len(samples) // SAMPLES) or 1],
        "elements": elements,
    }


def _plain(x):
    """Return the elements of a tensor that this process has."""
    x = x.detach()
    x = getattr(x, "to_local", lambda: x)()
    return x.coalesce().values() if x.layout != _strided() else x


def _strided():
    import torch

    return torch.strided


def _some(x):
    x = _plain(x).flatten()
    return x[:: max(1, -(-x.numel() // PER_TENSOR))].cpu()


def _bytes(x):
    import torch

    return bytes(x.contiguous().view(torch.uint8).tolist()) if x.numel() else b""


def _attach(optimizer):
    """Attach the noise of the arm, which needs the package, unless the script itself did."""
    try:
        import gradnoise
        from gradnoise.noise.handle import attached
        from gradnoise.noise.steps.innermost import innermost
    except ImportError as error:
        raise RuntimeError(
            f"this arm of `gradnoise compare` adds noise, for which {sys.executable} needs the package gradnoise"
            f" ({error}); install it there"
        ) from error
    if not attached(innermost(optimizer)):
        gradnoise.attach(optimizer)


def _noise(optimizer):
    """Return the noise of an optimizer at its first update: sigma, and its seed."""
    module = sys.modules.get("gradnoise.noise.handle")
    if module is None:
        return {}
    inner = sys.modules["gradnoise.noise.steps.innermost"].innermost(optimizer)
    for noise in module.handles():
        if noise.optimizer is inner:
            return {"sigma": noise.sigma, "schedule": repr(noise.schedule), "seed": noise.seed}
    return {}


def _is_first_rank():
    return os.environ.get("RANK", "0") == "0"


def _append(name, record):
    import json

    with open(os.path.join(os.environ["GRADNOISE_RECORDS"], name), "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
