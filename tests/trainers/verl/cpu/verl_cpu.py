"""verl 0.9 on a CPU, by its registries: a platform, an FSDP2 engine on gloo, a rollout back end.

Loaded in every process of a test run by VERL_USE_EXTERNAL_MODULES. Besides, it writes down what is
planned and trained, and shortens a poll of two seconds.
"""

import contextlib
import functools
import json
import os
import types
from typing import Any

import torch
import verl.utils.distributed as distributed
import verl.workers.engine_workers as engine_workers
from verl.plugin.platform import platform_manager
from verl.plugin.platform.platform_base import PlatformBase

NUMBERS = ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved")
NOTHING = ("empty_cache", "synchronize", "reset_peak_memory_stats", "ipc_collect", "set_device",
           "manual_seed", "manual_seed_all")  # fmt: skip
ANSWERS: dict[str, Any] = {
    **dict.fromkeys(NUMBERS, lambda *a, **k: 0),
    **dict.fromkeys(NOTHING, lambda *a, **k: None),
    "mem_get_info": lambda *a: (1 << 33, 1 << 34),
    "current_device": lambda: "cpu",
    "device_count": lambda: 1,
    "is_available": lambda: True,
    "get_device_name": lambda *a: "CPU",
    "set_rng_state": lambda state, *a: torch.set_rng_state(state),
    "get_rng_state": lambda *a: torch.get_rng_state(),
}


class _Module(types.ModuleType):
    """What verl asks torch.cuda, on a CPU."""

    def __getattr__(self, name: str) -> Any:
        if hasattr(torch.cpu, name):
            return getattr(torch.cpu, name)
        if name in ANSWERS:
            return ANSWERS[name]
        raise AttributeError(name)


@platform_manager.PlatformRegistry.register("cpu")
class PlatformCPU(PlatformBase):
    device_name = property(lambda self: "cpu")
    vendor_name = property(lambda self: "cpu")
    module = _Module("cpu")
    device_module = property(lambda self: self.module)

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, index: Any) -> None: ...

    def synchronize(self, index: Any = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings: Any) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, message: str) -> Any:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None: ...


platform_manager.set_platform(PlatformCPU())

# verl asks for "cpu:gloo,<device>:<backend>", which torch rejects where the device is the cpu
engine_workers.initialize_global_process_group_ray = functools.partial(
    distributed.initialize_global_process_group_ray, backend="gloo"
)


def _register() -> None:
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp import transformer_impl
    from verl.workers.rollout import base, replica

    if "cpu" not in EngineRegistry._engines["language_model"]["fsdp2"]:

        @EngineRegistry.register(
            model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu"
        )
        class CPUEngine(transformer_impl.FSDPEngineWithLMHead): ...

    policy = transformer_impl.CPUOffloadPolicy  # of the reference; memory is pinned for a GPU
    transformer_impl.CPUOffloadPolicy = lambda pin_memory: policy(pin_memory=False)
    base._ROLLOUT_REGISTRY["cpu", "async"] = "verl_cpu_rollout.Adapter"

    def load() -> Any:
        from verl_cpu_rollout import Replica

        return Replica

    replica.RolloutReplicaRegistry.register("cpu", load)


def _quick_polls() -> None:
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    defaults = ReplayBuffer.__init__.__defaults__
    ReplayBuffer.__init__.__defaults__ = tuple(0.05 if d == 2.0 else d for d in defaults)


class _Named:
    """A client of the servers that names its requests."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    async def generate(self, request_id: str, **kwargs: Any) -> Any:
        return await self.client.generate(self.name, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


def _name_requests() -> None:
    """A request is named after the prompt's index and the number of the rollout."""
    from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
    from verl.workers.rollout.llm_server import LLMServerClient

    run = SingleTurnAgentLoop.run

    async def named(self: Any, sampling_params: Any, **kwargs: Any) -> Any:
        name = f"{int(kwargs['index'])}-{kwargs['session_id']}"
        self.server_manager = _Named(self.server_manager, name)
        return await run(self, sampling_params, **kwargs)

    SingleTurnAgentLoop.run = named
    LLMServerClient._vllm_request_id = lambda self, request_id: request_id


def _in_order() -> None:
    """Rows of a batch by prompt and completion: arrival is chance, and float sums show it."""
    import transfer_queue as tq
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    materialize = ReplayBuffer._materialize_batch

    def ordered(self: Any, partition_id: str, *args: Any) -> Any:
        batch = materialize(self, partition_id, *args)
        data = tq.kv_batch_get(keys=batch.keys, partition_id=partition_id,
                               select_fields=["index", "responses"])  # fmt: skip
        names = [(int(index), row.tolist())
                 for index, row in zip(data["index"], data["responses"], strict=True)]  # fmt: skip
        batch.reorder(sorted(range(len(names)), key=names.__getitem__))
        return batch

    ReplayBuffer._materialize_batch = ordered


def _write_down() -> None:
    """Every plan, and the rows that trained with their weights."""
    from gdro.trainers.verl import driver, rows

    path = os.environ.get("PLAN_LOG")
    if not path:
        return

    def note(what: str, **values: Any) -> None:
        with open(path, "a") as file:
            file.write(json.dumps({"what": what} | values) + "\n")

    plan, weigh = driver.Driver.plan, rows.weigh

    def planned(self: Any, uids: Any, ids: Any) -> Any:
        found = plan(self, uids, ids)
        note("plan", step=found.step, ids=list(map(str, ids)), uids=list(uids),
             n=found.n_P.tolist(), weight=found.weight_P.tolist())  # fmt: skip
        return found

    def weighed(batch: Any, weight: Any) -> None:
        before = _levels(rows, batch)
        weigh(batch, weight)
        note("train", keys=list(batch.keys), weight=list(weight), raw=before,
             weighed=_levels(rows, batch), padding=list(map(rows.is_padding, batch.tags)),
             score=_sums(rows, batch, "rm_scores"),
             responses=[row.tolist() for row in rows.read(batch, "responses")["responses"]],
             old=_sums(rows, batch, "old_log_probs"))  # fmt: skip

    driver.Driver.plan, rows.weigh = planned, weighed


def _sums(rows: Any, batch: Any, name: str) -> list[float]:
    return rows.row_sums(rows.read(batch, name)[name]).tolist()


def _levels(rows: Any, batch: Any) -> list[float]:
    """The advantage of each row's first token."""
    return [float(row[0]) for row in rows.read(batch, "advantages")["advantages"]]


_register()
_quick_polls()
_name_requests()
_in_order()
_write_down()
