"""A rollout back end that generates with transformers.

Its samples depend on the step of the weights, the prompt's index and the number of the rollout, and
on nothing else: not on which server is asked, nor when.
"""

import asyncio
import hashlib
import os
from typing import Any

import ray
import torch
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica, TokenOutput


@ray.remote(num_cpus=0.1, max_concurrency=64)
class Server:
    def __init__(self, path: str, length: int) -> None:
        import verl  # noqa: F401 - its plugins
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.length = length
        self.step: int | None = None
        self.generated = 0

    async def generate(
        self, request_id: str, prompt_ids: Any, sampling_params: dict[str, Any], **more: Any
    ) -> TokenOutput:
        self.generated += 1
        every = int(os.environ.get("FAIL_EVERY", "0"))
        if every and self.generated % every == 0:
            raise RuntimeError("injected")
        if self.generated == int(os.environ.get("DIE_AT", "0")):
            os._exit(1)
        prompt = list(map(int, prompt_ids))
        name = self.step, request_id
        seed = int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:7])
        generator = torch.Generator().manual_seed(seed)
        ids, said, logps = torch.tensor([prompt]), [], []
        temperature = sampling_params.get("temperature", 1.0)
        for _ in range(self.length):
            with torch.no_grad():
                logits = self.model(ids).logits[0, -1].float()
            logp = torch.log_softmax(logits / max(temperature, 1e-6), -1)
            # from the distribution function: a last bit of the weights hardly ever turns a token
            point = torch.rand((), generator=generator, dtype=torch.float64)
            token = int(torch.searchsorted(logp.double().exp().cumsum(0), point))
            token = min(token, len(logp) - 1) if temperature else int(logp.argmax())
            said.append(token)
            logps.append(float(logp[token]))
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
            if token == self.model.config.eos_token_id:
                break
            await asyncio.sleep(0)
        return TokenOutput(token_ids=said, log_probs=logps, stop_reason="completed",
                           extra_fields={"global_steps": self.step})  # fmt: skip

    async def load(self, state: dict[str, Any]) -> None:
        tensors = {name: torch.as_tensor(value) for name, value in state.items()}
        self.model.load_state_dict(tensors, strict=False)

    async def set_global_steps(self, step: int) -> None:
        self.step = step

    async def nothing(self, *args: Any, **kwargs: Any) -> None: ...

    wake_up = sleep = clear_kv_cache = release_kv_cache = resume_kv_cache = nothing
    abort_all_requests = resume_generation = start_profile = stop_profile = nothing


class Replica(RolloutReplica):
    async def launch_servers(self) -> None:
        name = f"cpu_server_{self.replica_rank}_0"
        server = Server.options(name=name).remote(
            self.model_config.path, self.config.response_length
        )
        self.servers, self._server_handle, self._server_address = [server], server, name


class Adapter(BaseRollout):
    """Of one rank: hands its weights to its server."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, *a: Any, **k: Any) -> None:
        super().__init__(config, model_config, device_mesh)
        self.name = f"cpu_server_{torch.distributed.get_rank()}_0"

    async def resume(self, tags: Any) -> None: ...

    async def release(self) -> None: ...

    async def update_weights(self, weights: Any, global_steps: Any = None, **more: Any) -> None:
        pairs = [p async for p in weights] if hasattr(weights, "__aiter__") else list(weights)
        state = {name: t.detach().float().cpu().clone().numpy() for name, t in pairs}
        server = ray.get_actor(self.name)
        await server.load.remote(state)
        if global_steps is not None:
            await server.set_global_steps.remote(global_steps)
