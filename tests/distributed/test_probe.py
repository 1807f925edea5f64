from ranks import on_ranks
import torch, torch.distributed as dist, traceback, itertools
from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy, FullyShardedDataParallel
from torch.distributed.tensor import DTensor, Shard, Replicate, Partial, distribute_tensor, init_device_mesh
from torch.distributed.tensor.placement_types import _StridedShard
from torch.distributed.tensor.parallel import *
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict, get_state_dict, set_state_dict
import torch.distributed.checkpoint as dcp
from exact import *
import time

def attempt(out, name, f):
    s = time.time()
    try: out[name] = f()
    except Exception as e: out[name] = traceback.format_exc()[-1500:]
    out[name] = (round(time.time() - s, 2), out[name])

@on_ranks(1, 2, 4)
def probe():
    r, n = dist.get_rank(), dist.get_world_size()
    out = {}
    def f1(orig):
        m = FullyShardedDataParallel(Model(), use_orig_params=orig, device_id=torch.device("cpu"))
        o = momentum(m.parameters()); noisy(o, m); train(m, o, 1, rank=r, size=n)
    mesh = init_device_mesh("cpu", (n,))
    def ring():
        p = torch.nn.Parameter(distribute_tensor(torch.zeros(5, 3), mesh, [Replicate()]))
        part = DTensor.from_local(torch.ones(5, 3), mesh, [Partial()])
        o = torch.optim.SGD([p], lr=1.); h = attach(o, Annealed(1.), seed=0)
        p.grad = part.redistribute(mesh, [Replicate()], async_op=True)
        kind = type(p.grad.to_local())
        kind2 = type(p.grad._local_tensor)
        o.step()
        return kind.__name__, kind2.__name__, torch.equal(p.grad.to_local(), n + h.replay("0.0", h.step - 1))
    attempt(out, "async", ring)
    def one(shape, mesh, placements, dtype=torch.float32):
        p = torch.nn.Parameter(distribute_tensor(torch.zeros(shape, dtype=dtype), mesh, placements))
        p.grad = distribute_tensor(torch.zeros(shape, dtype=dtype), mesh, placements)
        o = torch.optim.SGD([p], lr=1.); h = attach(o, Annealed(1.), seed=0)
        o.step()
        return torch.equal(full(p.grad), h.replay("0.0", 0).to(dtype))
    sq = init_device_mesh("cpu", (2, n // 2)) if n > 1 else init_device_mesh("cpu", (1, 1))
    P = [Shard(0), Shard(1), Replicate()]
    for a, b in itertools.product(P, P):
      for shape in [(8, 4), (7, 5), (2, 3)]:
        attempt(out, f"{a} {b} {shape}", lambda: one(shape, sq, [a, b]))
    for a, b in [(_StridedShard(0, split_factor=2), Shard(0)), (_StridedShard(0, split_factor=2), Replicate()), (Replicate(), _StridedShard(0, split_factor=2)), (Shard(0), _StridedShard(0, split_factor=2)),(Shard(0), _StridedShard(1, split_factor=2)), (_StridedShard(1, split_factor=2), Shard(1))]:
        attempt(out, f"{a} {b}", lambda: one((8, 8), sq, [a, b]))
    def tp(rows):
        m = torch.nn.Sequential(torch.nn.Linear(4, rows), torch.nn.ReLU(), torch.nn.Linear(rows, 6))
        sq = init_device_mesh("cpu", (2, n // 2), mesh_dim_names=("dp", "tp")) if n > 1 else init_device_mesh("cpu", (1, 1), mesh_dim_names=("dp", "tp"))
        parallelize_module(m, sq["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
        fully_shard(m, mesh=sq["dp"])
        o = torch.optim.SGD(m.parameters(), lr=1.); h = noisy(o, m)
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(sq["dp"].get_local_rank()))
        m(x).sum().backward()
        before = gradients(m)
        o.step()
        after = gradients(m)
        return [(p.grad.placements, p.to_local().shape) for p in m.parameters()], {k: torch.equal(after[k], before[k] + h.replay(k, 0)) for k in after}
    for rows in (8, 6, 2):
        attempt(out, f"tp {rows}", lambda: tp(rows))
    from torch.distributed.checkpoint.state_dict import StateDictOptions
    def resume(flat):
        res = []
        opts = StateDictOptions(flatten_optimizer_state_dict=flat)
        m = Model(dtype=torch.bfloat16)
        fully_shard(m); o = momentum(m.parameters()); h = noisy(o, m)
        if n == 2:
            for k in range(3):
                o.zero_grad(); m(batch(k, r, n, torch.bfloat16)).backward(); o.step()
            ms, os_ = get_state_dict(m, o, options=opts)
            dcp.save({"m": ms, "o": os_}, checkpoint_id="ck%d" % flat)
        m = Model(dtype=torch.bfloat16)
        fully_shard(m); o = momentum(m.parameters()); h = noisy(o, m)
        ms, os_ = get_state_dict(m, o, options=opts)
        sd = {"m": ms, "o": os_}
        dcp.load(sd, checkpoint_id="ck%d" % flat)
        set_state_dict(m, o, model_state_dict=sd["m"], optim_state_dict=sd["o"], options=opts)
        return res, h.step, type(o.param_groups[0].get("gradnoise_t"))
    attempt(out, "resume", lambda: resume(False))
    attempt(out, "resume flat", lambda: resume(True))
    return out

import pprint
def test_probe(ranks):
    for n in (1, 2, 4):
        for r, o in enumerate(ranks(probe, n)):
                if r in (0, n-1): print("=====", n, r)
                for k, v in o.items():
                    if r in (0, n-1) or v[1] == False: print(r, k, ":", v[0], v[1])
