"""Sampling with vLLM, in this process."""

import importlib
from collections.abc import Generator, Mapping
from typing import Any

from gdro.core.errors import UnsupportedError
from gdro.evals.engines.base import Job, Sample, Sampling, request_seed

CHUNK = 2048
"""Completions between two writes: what an interruption may cost."""


class VLLM:
    """vLLM's `LLM`. Every completion is a request with a seed of its own."""

    def __init__(
        self, model: str, *, revision: str | None, sampling: Sampling,
        arguments: Mapping[str, Any], chat_template_kwargs: Mapping[str, Any],
    ) -> None:  # fmt: skip
        try:
            vllm: Any = importlib.import_module("vllm")
        except ImportError as error:
            raise UnsupportedError(f"engine vllm needs vLLM (pip install vllm): {error}") from None
        self._vllm = vllm
        self._llm = vllm.LLM(
            model=model, revision=revision, tokenizer_revision=revision, **arguments
        )
        self._tokenizer = self._llm.get_tokenizer()
        self._sampling, self._template = sampling, dict(chat_template_kwargs)

    def sample(self, job: Job) -> Generator[list[Sample]]:
        """Yields a chunk at a time."""
        from gdro.evals.sampling import prompt_ids

        ids = prompt_ids(self._tokenizer, job.prompt_N, self._template)
        missing = job.missing(self._sampling.k)
        for first in range(0, len(missing), CHUNK):
            chunk = missing[first : first + CHUNK]
            outputs = self._llm.generate(
                [{"prompt_token_ids": ids[i]} for i, _ in chunk],
                [self._parameters(job, i, j) for i, j in chunk],
                use_tqdm=False,
            )
            said = [output.outputs[0] for output in outputs]
            yield [
                job.sample(
                    *place,
                    text=one.text,
                    tokens=len(one.token_ids),
                    truncated=one.finish_reason == "length",
                )
                for place, one in zip(chunk, said, strict=True)
            ]

    def _parameters(self, job: Job, position: int, number: int) -> Any:
        return self._vllm.SamplingParams(
            n=1,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            top_k=self._sampling.top_k or -1,
            max_tokens=job.max_tokens,
            seed=request_seed((job.benchmark, job.id_N[position], job.seed, number)),
        )

    def about(self) -> dict[str, Any]:
        """vLLM's version."""
        return {"vllm": self._vllm.__version__}
