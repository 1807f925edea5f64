"""DeepSpeed's own engine on two ranks: noise once an update, whole, and its partitions are told of."""

import importlib.util
import json
import os
import socket
import subprocess
import sys

import pytest

if importlib.util.find_spec("deepspeed") is None:
    pytest.skip("DeepSpeed is not installed: DS_BUILD_OPS=0 pip install deepspeed", allow_module_level=True)

SCRIPT = """
import json, os, sys, warnings
import deepspeed, torch
import torch.distributed as dist
import gradnoise

deepspeed.init_distributed("gloo")
rank, found = dist.get_rank(), {}

def weights(model):
    parameters = list(model.parameters())
    with deepspeed.zero.GatheredParameters(parameters):
        return torch.cat([p.detach().double().flatten() for p in parameters])

def train(stage, where, kind, seed):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(10, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    config = {"train_batch_size": 4 * dist.get_world_size(), "zero_allow_untested_optimizer": True}
    config |= {"zero_optimization": {"stage": stage}, "bf16": {"enabled": kind == "bf16"}}
    attach = lambda x: gradnoise.attach(x, gradnoise.Annealed(1.0), seed=seed)
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        noise = attach(optimizer) if where == "before" else None
        engine, theirs, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        noise = noise or attach(theirs)
        moved = []
        for _ in range(4):
            before = weights(model)
            x = torch.zeros(4, 10, dtype=torch.bfloat16 if kind == "bf16" else torch.float32)
            engine.backward((engine(x) * 0).sum())
            engine.step()
            moved.append(weights(model) - before)
            dist.barrier()
        said = [str(w.message) for w in caught if "gradnoise" in w.filename or "noise" in str(w.message)]
    whole = torch.cat(moved)
    all_of_them = [torch.empty_like(whole) for _ in range(dist.get_world_size())]
    dist.all_gather(all_of_them, whole)
    half = len(moved[0]) // 2
    return {"updates": noise.step, "deviation": [float(x.std()) for x in moved], "said": said,
            "equal": all(torch.equal(x, whole) for x in all_of_them),
            "halves": bool(torch.isclose(moved[0][:half], moved[0][half:2 * half], atol=1e-6).float().mean() > 0.5)}

for case in json.loads(sys.argv[1]):
    found["-".join(map(str, case))] = train(*case[:3], rank if case[3] == "each" else 0)
json.dump(found, open(sys.argv[2], "w"))
"""
CASES = [
    *([stage, where, "fp32", "one"] for stage in (0, 1, 2) for where in ("before", "after")),
    [1, "before", "bf16", "one"],
    [1, "before", "fp32", "each"],
    [2, "after", "bf16", "each"],
    [3, "before", "fp32", "one"],
    [3, "before", "bf16", "each"],
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Case -> what each of two ranks saw."""
    folder = tmp_path_factory.mktemp("deepspeed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(2):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}
        environment = {**os.environ, "DS_ACCELERATOR": "cpu", **{k: str(v) for k, v in place.items()}}
        words = [sys.executable, "-c", SCRIPT, json.dumps(CASES), str(folder / f"{rank}.json")]
        with open(folder / f"{rank}.log", "w") as log:
            ranks.append(subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT))
    codes = [rank.wait(300) for rank in ranks]
    assert codes == [0, 0], (folder / "0.log").read_text()[-3000:]
    both = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return {case: [x[case] for x in both] for case in both[0]}


@pytest.mark.parametrize("case", ["-".join(map(str, case)) for case in CASES])
def test_every_update_has_its_noise_once(found, case):
    for seen in found[case]:
        assert seen["updates"] == 4, "a rehearsal of the optimizer's state is no update"
        assert seen["equal"], "all ranks have the same weights"
        sigma = [(1 + t) ** -0.275 for t in range(4)]
        assert seen["deviation"] == pytest.approx(sigma, rel=0.25)


def test_equal_noise_on_partitions_is_told_of(found):
    for case, seen in found.items():
        alike = [s for rank in seen for s in rank["said"] if "adds the same noise to '0.0' as this rank" in s]
        stage, _, _, seeds = case.split("-")
        assert len(alike) == (2 if stage != "0" and seeds == "one" else 0), case
        assert all(rank["halves"] is False for rank in seen) or seeds == "one"
