"""vLLM behind TRL: every row its own request."""

from typing import Any


def one_request_each(trainer: Any) -> None:
    """Keeps TRL from asking for n completions of every n-th row while it trains.

    vLLM's server mode does: with ragged groups that gives completions to the wrong prompts.
    """
    generate = trainer.vllm_generation.generate

    def one_each(*args: Any, **kwargs: Any) -> Any:
        if trainer.model.training:
            kwargs["num_generations"] = 1
        return generate(*args, **kwargs)

    trainer.vllm_generation.generate = one_each
