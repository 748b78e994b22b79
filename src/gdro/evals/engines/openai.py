"""Sampling from any server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, OpenAI.

Every completion is a request of its own (`n` is 1), so what fails is asked again alone. Texts go to
``/completions`` and chats to ``/chat/completions``, where the server applies its template.
"""

import email.utils
import http.client
import json
import logging
import os
import queue
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from gdro.core.errors import ConfigError, GdroError
from gdro.evals.engines.base import Job, Sample, Sampling, request_seed

logger = logging.getLogger(__name__)

RETRIED = {408, 409, 425, 429, *range(500, 600)}
BACKOFF, BACKOFF_MAX = 0.5, 30.0
"""Seconds before the second attempt, doubled for each further one, and the most of them."""
RETRY_AFTER_MAX = 300.0
"""Seconds that a server's Retry-After is heeded at most."""
GRACE = 5.0
"""Seconds that requests under way get to come to an end when another has failed for good."""


class ServerError(GdroError, ConnectionError):
    """The server cannot be used, or a request failed too often; what came is kept."""


@dataclass
class _Failure(Exception):
    """An attempt that may be repeated."""

    kind: str
    said: str
    wait: float = 0.0


class OpenAI:
    """A client with so many requests under way at a time, that repeats what fails.

    Args:
        model: As the server names it.
        base_url: Such as ``http://localhost:8000/v1``.
        sampling: `top_k` None is not sent; 0 is sent as -1, vLLM's and SGLang's word for off.
        concurrency: Requests under way at a time, >= 1.
        timeout: Seconds without a byte of the answer, > 0.
        retries: Attempts after the first, for each completion.
        chat_template_kwargs: For the server's chat template (vLLM and SGLang).

    The key is read from the environment, OPENAI_API_KEY. A model that the server does not list is
    asked all the same, with a warning: some list what they have downloaded, not what they serve.

    Raises:
        ConfigError: if the URL or the key is none.
        ServerError: if the server cannot be reached.
    """

    def __init__(
        self, model: str, *, base_url: str, sampling: Sampling, concurrency: int, timeout: float,
        retries: int, chat_template_kwargs: Mapping[str, Any],
    ) -> None:  # fmt: skip
        if not re.fullmatch(r"https?://[^\s/]+\S*", base_url):
            raise ConfigError(
                f"base_url must be http:// or https://, a host and a path, got {base_url!r}"
            )
        self._key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not re.fullmatch(r"[!-~]*", self._key):
            raise ConfigError("OPENAI_API_KEY must be printable ASCII without spaces")
        self._url, self._model, self._sampling = base_url.rstrip("/"), model, sampling
        self._concurrency, self._timeout, self._retries = concurrency, timeout, retries
        self._template = dict(chat_template_kwargs)
        self._repeated: Counter[str] = Counter()
        self._lock = threading.Lock()
        names = self._listed()
        if names and self._model not in names:
            logger.warning("%s does not list %s, but %s", self._url, self._model, ", ".join(names))

    def _listed(self) -> list[str]:
        """The models that the server lists; none where it lists none, the first request tells."""
        try:
            listed = json.loads(self._send("/models", None))
            return [str(model["id"]) for model in listed["data"]]
        except _Failure as failure:
            if failure.kind in ("timeout", "connection"):
                raise ServerError(f"{self._url} cannot be used: {failure.said}") from failure
        except (ServerError, ValueError, KeyError, TypeError):
            pass
        return []

    def sample(self, job: Job) -> Generator[list[Sample]]:
        """Yields completions as they come; where one fails for good, the others first.

        Raises:
            ServerError: if the server refuses a request, or one failed `retries` + 1 times.
        """
        missing = job.missing(self._sampling.k)
        todo: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        came: queue.SimpleQueue[Sample | BaseException] = queue.SimpleQueue()
        stop = threading.Event()
        for place in missing:
            todo.put(place)

        def work() -> None:
            while not stop.is_set():
                try:
                    place = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    came.put(self._ask(job, *place, stop))
                except BaseException as error:  # noqa: BLE001 - raised where it is read
                    came.put(error)

        # Daemons: nobody who gives up has to wait for an answer.
        count = min(self._concurrency, len(missing))
        workers = [threading.Thread(target=work, daemon=True) for _ in range(count)]
        left = len(missing)
        try:
            for worker in workers:
                worker.start()
            while left:
                got = [came.get(), *_rest(came)]
                left -= len(got)
                errors = [one for one in got if isinstance(one, BaseException)]
                if errors:
                    stop.set()
                    deadline = time.monotonic() + GRACE
                    for worker in workers:
                        worker.join(max(0.0, deadline - time.monotonic()))
                    got += _rest(came)
                if samples := [one for one in got if isinstance(one, Sample)]:
                    yield samples
                if errors:
                    raise errors[0]
        finally:
            stop.set()

    def about(self) -> dict[str, Any]:
        """The server, and how often an attempt was repeated, by reason."""
        return {"base_url": self._url, "retries": dict(sorted(self._repeated.items()))}

    def _ask(self, job: Job, position: int, number: int, stop: threading.Event) -> Sample:
        key = (job.benchmark, job.id_N[position], job.seed, number)
        path, body = self._body(job.prompt_N[position], job.max_tokens, request_seed(key))
        for attempt in range(self._retries + 1):
            try:
                text, tokens, reason = _read(path, self._send(path, body))
            except _Failure as failure:
                wait = min(BACKOFF * 2**attempt, BACKOFF_MAX) * random.uniform(0.5, 1.0)
                if attempt == self._retries or stop.wait(max(wait, failure.wait)):
                    raise ServerError(
                        f"{self._url}: {job.benchmark} {job.id_N[position]} failed "
                        f"{attempt + 1} times, last by {failure.said}"
                    ) from failure
                with self._lock:
                    self._repeated[failure.kind] += 1
            else:
                return job.sample(
                    position, number, text=text, tokens=tokens, truncated=reason == "length"
                )
        raise AssertionError("unreachable")

    def _body(self, prompt: Any, max_tokens: int, seed: int) -> tuple[str, dict[str, Any]]:
        sampling = self._sampling
        body: dict[str, Any] = {
            "model": self._model, "max_tokens": max_tokens, "temperature": sampling.temperature,
            "top_p": sampling.top_p, "seed": seed, "n": 1, "stream": False,
        }  # fmt: skip
        if sampling.top_k is not None:
            body["top_k"] = sampling.top_k or -1
        if isinstance(prompt, str):
            return "/completions", body | {"prompt": prompt}
        if self._template:
            body["chat_template_kwargs"] = self._template
        return "/chat/completions", body | {"messages": prompt}

    def _send(self, path: str, body: Any) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            said = f"status {error.code}: {_start_of(error)}"
            if error.code not in RETRIED:
                raise ServerError(f"{self._url}{path} refuses the request, {said}") from error
            wait = _retry_after(error.headers.get("Retry-After"))
            raise _Failure(str(error.code), said, wait) from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, TimeoutError):
                said = f"no answer within {self._timeout:g} s"
                raise _Failure("timeout", said) from error
            said = f"connection lost: {type(reason).__name__} {reason}"
            raise _Failure("connection", said) from error


def _read(path: str, answer: bytes) -> tuple[str, int | None, str]:
    """Text, number of tokens and reason of the end."""
    try:
        parsed = json.loads(answer)
        (choice,) = parsed["choices"]
        reason = choice["finish_reason"]
        # None is what a server says whose parser of thoughts found nothing but thoughts.
        text = choice["text"] if path == "/completions" else choice["message"]["content"] or ""
        tokens = (parsed.get("usage") or {}).get("completion_tokens")
        if not isinstance(text, str) or not isinstance(tokens, int | None):
            raise TypeError("a text and a number of tokens")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Failure("malformed", f"an answer that cannot be read: {answer[:200]!r}") from error
    if reason in (None, "abort", "error"):
        raise _Failure("aborted", f"an answer that ended by {reason!r}")
    return text, tokens, reason


def _start_of(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(500).decode(errors="replace").strip() or str(error.reason)
    except (OSError, http.client.HTTPException):
        return str(error.reason)


def _retry_after(value: str | None) -> float:
    """Seconds to wait, from a number of them or a date."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAX)


def _rest(came: "queue.SimpleQueue[Any]") -> list[Any]:
    rest = []
    while True:
        try:
            rest.append(came.get_nowait())
        except queue.Empty:
            return rest
