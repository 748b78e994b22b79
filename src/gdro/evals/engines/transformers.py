"""Sampling with transformers, in this process."""

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from gdro.core.errors import ConfigError
from gdro.evals.engines.base import Job, Sample, Sampling


class Transformers:
    """A causal language model of transformers.

    A batch's samples depend on the settings alone and are kept together: a run that is continued
    gives what the uninterrupted one gives, on the same machine to the last bit.
    """

    def __init__(
        self, model: str, *, revision: str | None, sampling: Sampling, batch_size: int,
        arguments: Mapping[str, Any], chat_template_kwargs: Mapping[str, Any],
    ) -> None:  # fmt: skip
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        given = {"dtype": "auto", **arguments}
        device = given.pop("device", "cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model = AutoModelForCausalLM.from_pretrained(model, revision=revision, **given)
            if "device_map" not in given:
                self._model.to(device)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(f"model {model} cannot be loaded: {error}") from error
        self._tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        self._sampling, self._batch = sampling, batch_size
        self._template = dict(chat_template_kwargs)

    def sample(self, job: Job) -> Generator[list[Sample]]:
        """Yields batches; one of which any sample is missing is drawn anew, as it was."""
        from gdro.evals.sampling import prompt_ids, sample

        missing = set(job.missing(self._sampling.k))

        def told(prompt_R: np.ndarray, sample_R: np.ndarray) -> list[tuple[int, int]]:
            return list(zip(prompt_R.tolist(), sample_R.tolist(), strict=True))

        for batch in sample(
            self._model,
            self._tokenizer,
            prompt_ids(self._tokenizer, job.prompt_N, self._template),
            k=self._sampling.k,
            max_new_tokens=job.max_tokens,
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            top_k=self._sampling.top_k or 0,
            batch_size=self._batch,
            seed=job.seed,
            skip=lambda prompt_R, sample_R: missing.isdisjoint(told(prompt_R, sample_R)),
        ):
            yield [
                job.sample(*place, text=text, tokens=len(tokens), truncated=not bool(ended))
                for place, text, tokens, ended in zip(
                    told(batch.prompt_R, batch.sample_R), batch.text_R, batch.token_R,
                    batch.ended_R, strict=True,
                )
                if place in missing
            ]  # fmt: skip

    def about(self) -> dict[str, Any]:
        """The device, the precision, and the commit of a model of the hub."""
        return {
            "device": str(self._model.device),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "commit": getattr(self._model.config, "_commit_hash", None),
        }
