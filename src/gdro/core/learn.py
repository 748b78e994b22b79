"""One step of learning: every part sees what came back, and a record says what the step was."""

from copy import copy
from functools import partial

from gdro.core.aggregation import units_P
from gdro.core.config import ControllerConfig
from gdro.core.difficulty import Difficulty
from gdro.core.ledger import Ledger
from gdro.core.method import Method
from gdro.core.observed import Observed
from gdro.core.policy import Feedback
from gdro.core.record import Record, numbers
from gdro.core.signal import signal_P


def learn(
    seen: Observed,
    *,
    step: int,
    config: ControllerConfig,
    difficulty: Difficulty,
    method: Method,
    ledger: Ledger,
    padding: int,
    padding_tokens: int,
    refused: int,
) -> Record:
    """Books the rollouts; then classifier, adversary, monitor and policies learn, in this order.

    Args:
        seen: What came back.
        step: The record's.
        config: The controller's.
        difficulty: Learns the counts.
        method: Adversary, monitor and the three ports.
        ledger: What was spent.
        padding: Rollouts that only filled a batch.
        padding_tokens: Their tokens.
        refused: Second outcomes refused so far, for the record.
    """
    # nobody reads the scores of an adversary that does not act; its signal may ask for losses
    signal = config.prompt.signal if config.adversary_acts else "error"
    unit_P = units_P(config.rollout.aggregation, seen.train_P)
    ledger.add(seen.n_P, seen.train_P, seen.tokens, padding, padding_tokens)

    difficulty.observe(seen.row_P, seen.n_P, seen.correct_P)
    loss_P = signal_P(
        signal,
        n_P=seen.n_P,
        correct_P=seen.correct_P,
        loss_P=seen.loss_P,
        pass_at_k_P=difficulty.pass_at_k(seen.row_P) if signal == "failure" else None,
    )
    method.adversary.observe(loss_P, seen.bin_P)
    method.variance.observe(
        seen.bin_P,
        seen.n_P,
        p_P=difficulty.success(seen.row_P),
        loss_P=seen.loss_P,
        score_P=seen.score_P,
    )
    feedback = Feedback(
        bin_P=seen.bin_P,
        n_P=seen.n_P,
        correct_P=seen.correct_P,
        loss_P=seen.loss_P,
        propensity_P=seen.propensity_P,
        row_P=seen.row_P,
    )
    method.observe(feedback)
    return Record(
        partial(
            numbers,
            step=step,
            bin_P=seen.bin_P,
            planned_P=seen.planned_P,
            trained_P=seen.train_P,
            weight_P=seen.adversary_P,
            unit_P=unit_P,
            n_P=seen.n_P,
            correct_P=seen.correct_P,
            tokens=seen.tokens + padding_tokens,
            padding=padding,
            adversary=copy(method.adversary),  # their arrays are replaced, never written to
            variance=copy(method.variance),
            population_B=difficulty.population_B(),
            extra=method.metrics()
            | difficulty.metrics()
            | ledger.metrics()
            | {"gdro/refused": float(refused)},
        )
    )
