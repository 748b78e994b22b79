"""Reward functions: TRL's signature, verl's, and those that users bring."""

import hashlib
import importlib
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from gdro.core.errors import ConfigError, DataError
from gdro.rewards.verdict import VERDICTS, Verdict
from gdro.rewards.verify import exact_match, numeric_match, verify

Completion = str | Sequence[dict[str, Any]]
Reward = Callable[..., Any]


def math_reward(
    completions: Sequence[Completion],
    answer: Sequence[str],
    *,
    policy: str = "last_box",
    tolerance: float = 0.0,
    **kwargs: Any,
) -> list[float]:
    r"""1 where the completion's answer is the gold of the column ``answer``, else 0; see `verify`.

    Args:
        completions: texts, or chats (the content of the last message counts).
        answer: gold answers.
        policy: where in the completion the answer stands; by default in the last ``\boxed{}``.
        tolerance: relative difference up to which numbers agree, in [0, 1).
        kwargs: further columns, unused; TRL's ``log_metric``, if there, gets the share of each
            verdict as ``verify/<verdict>``, and its ``log_extra`` the verdicts as the column
            ``verdict/math_reward``.
    """
    texts = [text_of(c) for c in completions]
    verdict_R = verify(answer, texts, policy=policy, tolerance=tolerance)
    return _rewards("math_reward", verdict_R, kwargs)


def exact_reward(
    completions: Sequence[Completion], answer: Sequence[str], **kwargs: Any
) -> list[float]:
    """1 where the completion is the column ``answer`` but for space around it, else 0."""
    verdict_R = exact_match(answer, [text_of(c) for c in completions])
    return _rewards("exact_reward", verdict_R, kwargs)


def numeric_reward(
    completions: Sequence[Completion], answer: Sequence[str], **kwargs: Any
) -> list[float]:
    """1 where the completion is a number that equals the column ``answer``, else 0."""
    verdict_R = numeric_match(answer, [text_of(c) for c in completions])
    return _rewards("numeric_reward", verdict_R, kwargs)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | float,
    extra_info: Mapping[str, Any] | None = None,
    *,
    policy: str = "last_box",
    tolerance: float = 0.0,
    **kwargs: Any,
) -> float:
    """verl's signature: 1.0 if the response's answer is right, else 0.0; see `verify`.

    In a configuration of verl (the signature was read in 0.9.1, whose managers call it from
    threads)::

        reward:
          custom_reward_function:
            path: pkg://gdro.rewards
            name: compute_score
            reward_kwargs: {policy: answer_line}

    It is a float and no dictionary: verl's reward managers take both, and log a float as ``acc``,
    but its offline evaluation averages what it gets.

    Args:
        data_source: name of the data set, unused.
        solution_str: the response, decoded.
        ground_truth: gold answer; a number is taken as its decimal text.
        extra_info: unused.
        policy: as in `verify`.
        tolerance: as in `verify`.
        kwargs: whatever else verl passes, unused.

    Raises:
        DataError: if the gold is empty, or neither text nor a number.
    """
    if isinstance(ground_truth, Real) and not isinstance(ground_truth, bool):
        ground_truth = str(ground_truth)
    (verdict,) = verify([ground_truth], [solution_str], policy=policy, tolerance=tolerance)  # type: ignore[list-item]
    return float(verdict == Verdict.right)


KNOWN: dict[str, Reward] = {
    "exact": exact_reward,
    "numeric": numeric_reward,
    "math": math_reward,
}


def reward_function(name: str) -> Reward:
    """A reward function by its name; nothing has to be registered.

    Args:
        name: ``exact``, ``numeric``, ``math``, an import path (``package.module.function`` or
            ``package.module:function``; the current folder counts), or a file's
            (``path/to/file.py:function``). The function has TRL's signature: keyword arguments in
            (``completions``, ``prompts``, the columns of the data set), one float for each
            completion out.

    Raises:
        ConfigError: if there is no such function, or importing it fails.
    """
    if name in KNOWN:
        return KNOWN[name]
    module, colon, attribute = name.rpartition(":")
    if not colon:
        module, _, attribute = name.rpartition(".")
    if not module or not attribute:
        raise ConfigError(
            f"reward_funcs must be {', '.join(KNOWN)}, import paths (package.module:function) or "
            f"files (path/to/file.py:function), got {name!r}"
        )
    try:
        if colon and module.endswith(".py"):
            holder = _file_module(Path(module).expanduser().resolve())
        else:
            with _importable(os.getcwd()):
                holder = importlib.import_module(module)
        found = getattr(holder, attribute)
    except Exception as error:  # a user's file may raise anything
        what = type(error).__name__
        raise ConfigError(f"reward_funcs: cannot import {name!r} ({what}: {error})") from error
    if not callable(found):
        raise ConfigError(f"reward_funcs: {name!r} is a {type(found).__name__}, not a function")
    if not hasattr(found, "__name__"):  # a partial, an object with __call__
        raise ConfigError(
            f"reward_funcs: {name!r} has no __name__ to log it by; make it a function (def)"
        )
    return found


def _file_module(path: Path) -> ModuleType:
    """The file as a module, loaded once; files beside it can be imported from it."""
    name = f"_gdro_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look themselves up there
    try:
        with _importable(str(path.parent)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def text_of(completion: Completion) -> str:
    """The text of a completion, plain or a chat.

    Raises:
        DataError: if it is neither.
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list) and all(isinstance(message, dict) for message in completion):
        content = completion[-1].get("content") if completion else None
        if content is None:  # no message, or one of tool calls only
            return ""
        if isinstance(content, str):
            return content
        if isinstance(content, list) and all(isinstance(part, dict) for part in content):
            return "".join(part.get("text") or "" for part in content)
    raise DataError(f"a completion must be text or a list of messages, got {completion!r:.200}")


def _rewards(name: str, verdict_R: Sequence[Verdict], given: Mapping[str, Any]) -> list[float]:
    log_metric, log_extra = given.get("log_metric"), given.get("log_extra")
    if log_metric is not None and verdict_R:
        counts = Counter(verdict_R)
        for verdict in Verdict:
            log_metric(f"verify/{verdict}", counts[verdict] / len(verdict_R))
    if log_extra is not None:
        log_extra(VERDICTS.format(name), [verdict.value for verdict in verdict_R])
    return [float(verdict == Verdict.right) for verdict in verdict_R]
