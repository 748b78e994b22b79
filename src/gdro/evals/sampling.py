"""Sampling with transformers: left padding, chat templates, a random stream of its own."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig

from gdro.core.errors import ConfigError, DataError
from gdro.evals.evaluation import Evaluation

if TYPE_CHECKING:
    from datasets import Dataset

Verifier = Callable[..., Sequence[Any]]
"""A reward function in TRL's signature -> a 0/1, bool or `Verdict` for each completion.

Keyword arguments: `prompts`, `completions` (chats where the prompts are), `completion_ids`, and
every other column of the prompts by its name.
"""

GROUPINGS = ("family", "level", "subject", "source")
KEPT = 2_000
"""Characters that are kept of an answer."""
_GIVEN = ("prompt", "completion", "completion_ids")


def evaluate(
    model: Any,
    tokenizer: Any,
    prompts: "Dataset",
    verifier: Verifier,
    *,
    k: int = 8,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    batch_size: int = 128,
    seed: int = 0,
    by: Sequence[str] | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Samples k completions of each prompt and scores them.

    The result depends on the arguments alone, and torch's random state is left as it was: a
    training run goes on as if no evaluation had taken place.

    Args:
        model: A causal language model of transformers; its mode is restored afterwards.
        tokenizer: Its tokenizer.
        prompts: Rows of `prompt` (text, or chat messages) and `answer`; `id` if there is one.
        verifier: Marks the completions.
        k: Completions of each prompt.
        max_new_tokens: A completion is cut here.
        temperature: > 0.
        top_p: Nucleus sampling; 1 is off.
        top_k: Sampling among so many tokens; 0 is off.
        batch_size: Completions generated at a time.
        seed: Of the samples.
        by: Columns to break the scores down by; None takes those of family, level, subject and
            source that are there and differ between prompts.
        chat_template_kwargs: For the chat template, such as `{"enable_thinking": False}`.
        progress: Called with completions done and in all after each batch.

    Raises:
        ConfigError: if an argument is out of its bounds.
        DataError: if a column is missing, there are no prompts, or the verifier's answer is not a
            0/1 for each completion.
    """
    for name, value in (("k", k), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"{name} must be >= 1, got {value}")
    if temperature <= 0:
        raise ConfigError(f"temperature must be > 0, got {temperature}")
    columns = prompts.column_names
    if by is None:
        by = [name for name in GROUPINGS if name in columns and len(set(prompts[name])) > 1]
    for name in ("prompt", "answer", *by):
        if name not in columns:
            raise DataError(f"the prompts have no column {name!r}; there are {', '.join(columns)}")
    if len(prompts) == 0:
        raise DataError("there are no prompts to evaluate on")

    start = time.perf_counter()
    chat = not isinstance(prompts[0]["prompt"], str)
    asked = list(prompts["prompt"])
    cells = {name: list(prompts[name]) for name in columns if name not in _GIVEN}
    correct_N, tokens_N, truncated_N = np.zeros((3, len(asked)), dtype=np.int64)
    answers, done = [""] * len(asked), 0
    batches = sample(
        model, tokenizer, prompt_ids(tokenizer, asked, chat_template_kwargs), k=k,
        max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k,
        batch_size=batch_size, seed=seed,
    )  # fmt: skip
    with closing(batches):  # also where the verifier fails, the model is as it was
        for batch in batches:
            said: list[Any] = batch.text_R
            if chat:
                said = [[{"role": "assistant", "content": text}] for text in said]
            verdicts = verifier(
                prompts=[asked[i] for i in batch.prompt_R], completions=said,
                completion_ids=batch.token_R,
                **{name: [values[i] for i in batch.prompt_R] for name, values in cells.items()},
            )  # fmt: skip
            marks = _marks(verdicts, len(said))
            for i, text in zip(batch.prompt_R, batch.text_R, strict=True):
                answers[i] = text[:KEPT]
            np.add.at(correct_N, batch.prompt_R, marks)
            np.add.at(tokens_N, batch.prompt_R, [len(tokens) for tokens in batch.token_R])
            np.add.at(truncated_N, batch.prompt_R, ~batch.ended_R)
            done += len(said)
            if progress:
                progress(done, k * len(asked))
    return Evaluation(
        k=k,
        id_N=list(prompts["id"]) if "id" in columns else list(range(len(asked))),
        correct_N=correct_N,
        tokens_N=tokens_N,
        truncated_N=truncated_N,
        groups={name: list(prompts[name]) for name in by},
        prompt_N=asked,
        answer_N=answers,
        settings={
            "max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p,
            "top_k": top_k, "seed": seed,
        },
        seconds=time.perf_counter() - start,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Completions that were generated together.

    Attributes:
        prompt_R: int64, position of each one's prompt.
        sample_R: int64, which of the k completions of its prompt it is.
        text_R: What was said, without special tokens.
        token_R: Its tokens, the one that ended it included.
        ended_R: bool, whether it came to an end before the token limit.
    """

    prompt_R: np.ndarray
    sample_R: np.ndarray
    text_R: list[str]
    token_R: list[list[int]]
    ended_R: np.ndarray


def sample(
    model: Any,
    tokenizer: Any,
    ids: Sequence[list[int]],
    *,
    k: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    top_k: int,
    batch_size: int,
    seed: int,
    skip: Callable[[np.ndarray, np.ndarray], bool] | None = None,
) -> Generator[Batch]:
    """Generates k completions of each prompt, a batch at a time.

    What a batch holds, and what is sampled in it, depends on the arguments alone and on no other
    batch. Between batches the model is in evaluation mode and torch's random state another one;
    both are restored at the end.

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        ids: Tokens of each prompt, as `prompt_ids` gives them.
        k: As the others, see `evaluate`; temperature 0 is greedy.
        max_new_tokens: See `evaluate`.
        temperature: See `evaluate`.
        top_p: See `evaluate`.
        top_k: See `evaluate`.
        batch_size: See `evaluate`.
        seed: See `evaluate`.
        skip: Told a batch's `prompt_R` and `sample_R`, says that it need not be generated.
    """
    # By length: a batch of one length needs no padding.
    rows = np.repeat(np.argsort([len(x) for x in ids], kind="stable"), k)
    stops = _stops(model, tokenizer)
    random = {"temperature": temperature, "top_p": top_p, "top_k": top_k} if temperature else {}
    sampling = GenerationConfig(
        do_sample=temperature > 0, max_new_tokens=max_new_tokens, eos_token_id=stops,
        pad_token_id=_pad(tokenizer), use_cache=True, **random,
    )  # fmt: skip
    with _undisturbed(model), _no_defaults(model):
        for number, first in enumerate(range(0, len(rows), batch_size)):
            prompt_R = rows[first : first + batch_size]
            sample_R = np.arange(first, first + len(prompt_R)) % k
            if skip and skip(prompt_R, sample_R):
                continue
            # Each batch has a seed of its own: a batch's samples depend on no other batch.
            torch.manual_seed(int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))
            completions = _generate(model, [ids[i] for i in prompt_R], sampling)
            lengths, ended = _lengths(completions, stops)
            tokens = [c[:n] for c, n in zip(completions.tolist(), lengths, strict=True)]
            yield Batch(
                prompt_R=prompt_R,
                sample_R=sample_R,
                text_R=tokenizer.batch_decode(tokens, skip_special_tokens=True),
                token_R=tokens,
                ended_R=ended,
            )


def prompt_ids(
    tokenizer: Any, prompts: Sequence[Any], chat_template_kwargs: dict[str, Any] | None = None
) -> list[list[int]]:
    """Tokens of prompts that are all text or all chats.

    Raises:
        ConfigError: if they are chats, and the tokenizer has no chat template.
    """
    if not isinstance(prompts[0], str) and not tokenizer.chat_template:
        raise ConfigError("prompts are chats, and the tokenizer has no chat template: take another "
                          "template, such as boxed")  # fmt: skip
    texts = [_text(p, tokenizer, chat_template_kwargs or {}) for p in prompts]
    # A chat template has written the special tokens already, plain text gets the tokenizer's.
    return tokenizer(texts, add_special_tokens=isinstance(prompts[0], str))["input_ids"]


def _text(prompt: Any, tokenizer: Any, kwargs: dict[str, Any]) -> str:
    if isinstance(prompt, str):
        return prompt
    return tokenizer.apply_chat_template(
        prompt, tokenize=False, add_generation_prompt=True, **kwargs
    )


def _stops(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a completion: the model's and the tokenizer's."""
    given = model.generation_config.eos_token_id
    stops = set(given if isinstance(given, list) else [given]) | {tokenizer.eos_token_id}
    stops.discard(None)
    if not stops:
        raise DataError("neither the tokenizer nor the model's generation_config has an eos token")
    return sorted(stops)


def _pad(tokenizer: Any) -> int:
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode and a random stream of its own; both are restored."""
    training = model.training
    devices = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            model.eval()
            yield
    finally:
        model.train(training)


@contextmanager
def _no_defaults(model: Any) -> Iterator[None]:
    """Without the model's own generation config: `generate` takes from it what is not given.

    A repetition penalty there would make another policy of the one that is trained.
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's wrapper
    given = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = given


def _generate(model: Any, ids: list[list[int]], sampling: GenerationConfig) -> torch.Tensor:
    """Completion tokens (no prompt), padded on the right."""
    width = max(map(len, ids))
    pad: Any = sampling.pad_token_id
    input_ids = torch.tensor([[pad] * (width - len(x)) + x for x in ids], device=model.device)
    mask = torch.tensor([[0] * (width - len(x)) + [1] * len(x) for x in ids], device=model.device)
    out = model.generate(input_ids=input_ids, attention_mask=mask, generation_config=sampling)
    return out[:, width:].cpu()


def _lengths(completions: torch.Tensor, stops: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each completion, its stop included, and whether it came to a stop."""
    stop = np.isin(completions.numpy(), stops)
    ended = np.asarray(stop.any(axis=1))
    return np.where(ended, stop.argmax(axis=1) + 1, stop.shape[1]), ended


def _marks(verdicts: Sequence[Any], count: int) -> np.ndarray:
    """0/1 of each verdict."""
    if len(verdicts) != count:
        raise DataError(f"the verifier gave {len(verdicts)} verdicts for {count} completions")
    marks = [float(v == "right") if isinstance(v, str) else float(v) for v in verdicts]
    if bad := [m for m in marks if m not in (0.0, 1.0)]:
        raise DataError(f"the verifier must give 0 or 1 (or a Verdict), got {bad[0]}")
    return np.asarray(marks, dtype=np.int64)
