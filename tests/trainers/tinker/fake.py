"""A local stand-in for the service behind Tinker's clients, and prompts for it.

A prompt is one token, an answer two: the first is right (1) or wrong (0), the second is style. How
often it is right is fixed by the prompt, and goes up a little with every optimizer step. A sample
is a function of the weights, the prompt and how many were drawn of it, in whatever order.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import chz
import numpy as np
import tinker
from tinker_cookbook.rl import types as rl
from tinker_cookbook.rl.train import Config

RIGHT, WRONG, FIRST_PROMPT = 1, 0, 100
RATES = (0.05, 0.3, 0.6, 0.95)


class Ready:
    """What the clients return: awaited, or asked for its result."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        return self.value

    def result(self) -> Any:
        return self.value


class Pending:
    """A request on its way."""

    def __init__(self, answer: Coroutine[Any, Any, Any]) -> None:
        self.answer = answer

    def __await__(self) -> Generator[Any, None, Any]:
        return self.answer.__await__()

    def coroutine(self) -> Coroutine[Any, Any, Any]:
        return self.answer


@dataclass
class Saved:
    path: str


class Cloud:
    """What outlives a process.

    Attributes:
        weights: Optimizer steps taken, by path.
        calls: Data of each forward_backward call, with the optimizer steps before it.
        fail_at: Optimizer steps at which the next forward_backward raises.
        broken: Prompts whose sampling raises, and after how many samples of a client.
    """

    def __init__(self) -> None:
        self.weights: dict[str, int] = {}
        self.calls: list[tuple[int, list[tinker.Datum]]] = []
        self.fail_at: int | None = None
        self.broken: dict[int, int] = {}

    def service(self, **_: Any) -> "Service":
        return Service(self)


class Service:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def create_lora_training_client(self, model: str, **_: Any) -> Ready:
        return Ready(Training(self.cloud, 0))

    def create_training_client_from_state_with_optimizer(self, path: str, **_: Any) -> Ready:
        return Ready(Training(self.cloud, self.cloud.weights[path]))

    def create_sampling_client(self, **_: Any) -> Ready:
        return Ready(Sampling(self.cloud, 0))

    def create_rest_client(self) -> "Service":
        return self

    def delete_checkpoint_from_tinker_path(self, path: str) -> Ready:
        return Ready(self.cloud.weights.pop(path))


class Training:
    def __init__(self, cloud: Cloud, steps: int) -> None:
        self.cloud, self.steps = cloud, steps

    def forward_backward(self, data: list[tinker.Datum], **_: Any) -> Ready:
        if self.cloud.fail_at == self.steps:
            self.cloud.fail_at = None
            raise ConnectionError("the machine went away")
        self.cloud.calls.append((self.steps, data))
        outputs = [{"logprobs": datum.loss_fn_inputs["logprobs"]} for datum in data]
        return Ready(tinker.ForwardBackwardOutput("fake", outputs))

    def optim_step(self, _: tinker.AdamParams) -> Ready:
        self.steps += 1
        return Ready(tinker.OptimStepResponse())

    def save_state(self, name: str, **_: Any) -> Ready:
        path = f"tinker://run/weights/{name}"
        self.cloud.weights[path] = self.steps
        return Ready(Saved(path))

    def save_weights_for_sampler(self, name: str, **_: Any) -> Ready:
        return Ready(Saved(f"tinker://run/sampler/{name}/{self.steps}"))

    def create_sampling_client(self, path: str, **_: Any) -> Ready:
        return Ready(Sampling(self.cloud, int(path.rsplit("/", 1)[1])))

    def save_weights_and_get_sampling_client(self, **_: Any) -> Ready:
        return Ready(Sampling(self.cloud, self.steps))


class Sampling:
    def __init__(self, cloud: Cloud, steps: int) -> None:
        self.cloud, self.steps, self.drawn = cloud, steps, Counter[int]()

    def sample(self, prompt: tinker.ModelInput, **asked: Any) -> "Pending":
        return Pending(self._sample(prompt, **asked))

    async def _sample(
        self, prompt: tinker.ModelInput, include_prompt_logprobs: bool = False, **_: Any
    ) -> tinker.SampleResponse:
        question = prompt.to_ints()[0]
        number = self.drawn[question]
        self.drawn[question] += 1
        draw = random.Random(f"{self.steps} {question} {number}")
        await asyncio.sleep(draw.random() / 1000)  # groups come back in another order
        if number >= self.cloud.broken.get(question, number + 1):
            raise ConnectionError(f"prompt {question} cannot be sampled")
        rate = min(RATES[question % len(RATES)] + 0.01 * self.steps, 1.0)
        answer = [RIGHT if draw.random() < rate else WRONG, draw.randrange(2, 5)]
        sequence = tinker.SampledSequence(
            stop_reason="stop", sequence_id=f"{self.steps}-{question}-{number}",
            tokens_np=np.array(answer, np.int32), logprobs_np=np.full(2, -0.5, np.float32),
        )  # fmt: skip
        scores = np.array([np.nan, *(-0.25 * (1 + np.arange(prompt.length - 1)))], np.float32)
        return tinker.SampleResponse(
            sequences=[sequence], prompt_logprobs_np=scores if include_prompt_logprobs else None
        )


class Tokenizer:
    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))


# -- prompts -----------------------------------------------------------------------------------


def reward_of(answer: Sequence[int], style: float) -> float:
    return float(answer[0] == RIGHT) + style * answer[1]


@dataclass
class Question(rl.Env):
    prompt: int
    style: float
    limited: ClassVar[set[int]] = set()
    """Prompts whose rollouts end at a limit, unjudged."""

    async def initial_observation(self) -> tuple[tinker.ModelInput, list[str]]:
        return tinker.ModelInput.from_ints([self.prompt]), []

    async def step(self, action: list[int], *, extra: Any = None) -> rl.StepResult:
        judged = {"correct": float(action[0] == RIGHT)}
        return rl.StepResult(
            reward=reward_of(action, self.style), episode_done=True,
            next_observation=tinker.ModelInput.from_ints([]), next_stop_condition=[],
            metrics={"stop/max_tokens": 1.0} if self.prompt in self.limited else judged,
        )  # fmt: skip


@dataclass(frozen=True)
class Group(rl.EnvGroupBuilder):
    prompt: int
    num_envs: int
    style: float

    async def make_envs(self) -> list[rl.Env]:
        return [Question(self.prompt, self.style) for _ in range(self.num_envs)]

    def logging_tags(self) -> list[str]:
        return [f"rate{RATES[self.prompt % len(RATES)]}"]


class PlainGroup(rl.EnvGroupBuilder):
    """As some recipes write it; with something to clean up."""

    opened: list[int] = []

    def __init__(self, prompt: int, group_size: int, style: float) -> None:
        self.prompt, self.group_size, self.style, self.mine = prompt, group_size, style, 0

    async def make_envs(self) -> list[rl.Env]:
        self.mine = self.group_size
        self.opened.append(self.mine)
        return [Question(self.prompt, self.style) for _ in range(self.mine)]

    async def cleanup(self) -> None:
        self.opened.remove(self.mine)


@chz.chz
class ChzGroup(rl.EnvGroupBuilder):
    prompt: int
    group_size: int
    style: float

    async def make_envs(self) -> list[rl.Env]:
        return [Question(self.prompt, self.style) for _ in range(self.group_size)]


class Questions(rl.RLDataset):
    def __init__(self, builders: list[rl.EnvGroupBuilder], batch: int) -> None:
        self.builders, self.batch = builders, batch

    def get_batch(self, index: int) -> list[rl.EnvGroupBuilder]:
        return self.builders[index * self.batch : (index + 1) * self.batch]

    def __len__(self) -> int:
        return len(self.builders) // self.batch


@chz.chz
class QuestionsBuilder(rl.RLDatasetBuilder):
    prompts: int = 16
    batch: int = 8
    num_envs: int = 4
    style: float = 0.0
    kind: str = "Group"

    async def __call__(self) -> tuple[Questions, None]:
        kind = globals()[self.kind]
        field = "num_envs" if kind is Group else "group_size"
        builders = [
            kind(prompt=FIRST_PROMPT + i, style=self.style, **{field: self.num_envs})
            for i in range(self.prompts)
        ]
        return Questions(builders, self.batch), None


def config_of(log_path: Path, data: QuestionsBuilder | None = None, **changes: Any) -> Config:
    values: dict[str, Any] = {
        "learning_rate": 1e-4, "dataset_builder": data or QuestionsBuilder(),
        "model_name": "fake/model", "recipe_name": "fake", "max_tokens": 4,
        "log_path": str(log_path), "eval_every": 0, "save_every": 2, "num_epochs": 4,
        "num_groups_to_log": 0,
    }  # fmt: skip
    return Config(**values | changes)


def answers(data: Sequence[tinker.Datum]) -> dict[int, tuple[list[list[int]], np.ndarray]]:
    """The answers of each prompt in training data, and the advantage of each token of theirs."""
    found: dict[int, tuple[list[list[int]], list[Any]]] = {}
    for datum in data:
        tokens = datum.loss_fn_inputs["target_tokens"].to_torch().tolist()
        advantages = datum.loss_fn_inputs["advantages"].to_torch().tolist()
        of_prompt = found.setdefault(datum.model_input.to_ints()[0], ([], []))
        of_prompt[0].append(tokens[-2:])
        of_prompt[1].append(advantages[-2:])
    return {prompt: (said, np.array(a)) for prompt, (said, a) in found.items()}
