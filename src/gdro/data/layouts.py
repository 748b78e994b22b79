"""Where known data sets keep what we need."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from gdro.core.errors import DataError
from gdro.data.identity import content_id

Row = dict[str, Any]


def after_hashes(solution: str) -> str:
    """GSM8K's final answer: what follows the last ``####``, without thousands commas."""
    _, mark, answer = solution.rpartition("####")
    return answer.strip().replace(",", "") if mark else ""


def boxed_in_solution(solution: str) -> str:
    r"""MATH's final answer: the last ``\boxed{}`` of the worked solution, or ``\boxed 5``."""
    starts = [m.end() for m in re.finditer(r"\\(?:boxed|fbox)\s*\{", solution)]
    if not starts:
        short = re.findall(r"\\boxed\s+(\w)", solution)
        return short[-1] if short else ""
    depth = 1
    for token in re.finditer(r"\\.|[{}]", solution[starts[-1] :], re.DOTALL):
        depth += (token.group() == "{") - (token.group() == "}")
        if depth == 0:
            return solution[starts[-1] : starts[-1] + token.start()].strip()
    return ""


def whole_number(answer: str) -> str:
    r"""AIME's and AMC's: ``025``, ``27.0``, ``336^\circ`` and ``\boxed{25}`` as plain integers."""
    text = boxed_in_solution(answer) or answer.strip()
    number = re.fullmatch(r"\$?0*(\d+)(?:\.0+)?(?:\^\{?\\circ\}?)?\$?", text)
    return number[1] if number else text


def _olympiad(where: str, row: Row) -> Row:
    """The context stands before the question; the answers are a list, of one text mostly."""
    answers = row.get("final_answer")
    if isinstance(answers, list) and all(isinstance(answer, str) for answer in answers):
        answers = ", ".join(answer.strip() for answer in answers)
    context, question = row.get("context"), row.get("question")
    if isinstance(context, str) and context.strip() and isinstance(question, str):
        question = f"{context.strip()}\n\n{question}"
    return {**row, "question": question, "final_answer": answers}


_CHOICES = ("Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3)))


def _gpqa(where: str, row: Row) -> Row:
    """Multiple choice with letters.

    The order is that of the hashes of record and choice: fixed, as good as shuffled, and that of
    one row whatever other rows there are.
    """
    for name in ("Question", *_CHOICES):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(f"{where}: {name} must be text, got {row.get(name)!r:.80}")
    question, (correct, *wrong) = row["Question"].strip(), (row[c].strip() for c in _CHOICES)
    if correct in wrong:
        raise DataError(f"{where}: Correct Answer is among the incorrect ones, {correct!r:.80}")
    key = row.get("Record ID") or content_id(question)
    choices = sorted([correct, *wrong], key=lambda choice: content_id([key, choice]))
    listed = "\n".join(f"{letter}) {c}" for letter, c in zip("ABCD", choices, strict=True))
    prompt = f"{question}\n\n{listed}\n\nThe answer is the letter of the right choice."
    return {**row, "prompt": prompt, "answer": "ABCD"[choices.index(correct)]}


def _minerva(where: str, row: Row) -> Row:
    """The answer in LaTeX where there is one: the other is Python's spelling."""
    return {**row, "answer_latex": row.get("answer_latex") or row.get("answer")}


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps what we need.

    Attributes:
        columns: ours -> theirs; dots lead into nested columns (``reward_model.ground_truth``).
        configs: configurations to load from the hub, one after the other; () is the only one.
        split: the usual one.
        gold: makes the gold answer out of the text of the answer column.
        prepare: makes, from where a row stands and the row, the row that `columns` speaks of.
        makes: columns that `prepare` adds.
        needs: columns by which rows of this layout are known, wherever they come from.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    configs: tuple[str, ...] = ()
    split: str = "train"
    gold: Callable[[str], str] = str.strip
    prepare: Callable[[str, Row], Row] | None = None
    makes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def _qa(prompt: str, answer: str, **more: str) -> dict[str, str]:
    return {"prompt": prompt, "answer": answer, **more}


_MATH = _qa("problem", "solution", level="level", subject="type")
_SUBJECTS = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra",
             "number_theory", "prealgebra", "precalculus")  # fmt: skip
_GPQA = Layout(
    {"id": "Record ID", "subject": "Subdomain"},
    ("gpqa_diamond",),
    prepare=_gpqa,
    makes=("prompt", "answer"),
    needs=("Question", *_CHOICES),
)
_VERL = Layout(
    _qa("prompt", "reward_model.ground_truth", source="data_source"),
    needs=("prompt", "reward_model"),
)

LAYOUTS = {
    "open-r1/DAPO-Math-17k-Processed": Layout(
        _qa("prompt", "solution", source="data_source"), ("en",)
    ),
    "BytedTsinghua-SIA/DAPO-Math-17k": _VERL,
    "agentica-org/DeepScaleR-Preview-Dataset": Layout(_qa("problem", "answer")),
    "openai/gsm8k": Layout(_qa("question", "answer"), ("main",), gold=after_hashes),
    "DigitalLearningGmbH/MATH-lighteval": Layout(_MATH, gold=boxed_in_solution),
    "EleutherAI/hendrycks_math": Layout(_MATH, _SUBJECTS, gold=boxed_in_solution),
    "qwedsacf/competition_math": Layout(_MATH, gold=boxed_in_solution),
    "nlile/hendrycks-MATH-benchmark": Layout(_qa("problem", "answer", id="unique_id")),
    "HuggingFaceH4/MATH-500": Layout(_qa("problem", "answer", id="unique_id"), split="test"),
    "HuggingFaceH4/aime_2024": Layout(_qa("problem", "answer"), gold=whole_number),
    "math-ai/aime24": Layout(_qa("problem", "solution"), split="test", gold=whole_number),
    "Maxwell-Jia/AIME_2024": Layout(_qa("Problem", "Answer", id="ID"), gold=whole_number),
    "math-ai/aime25": Layout(_qa("problem", "answer"), split="test", gold=whole_number),
    "opencompass/AIME2025": Layout(
        _qa("question", "answer"), ("AIME2025-I", "AIME2025-II"), "test", whole_number
    ),
    "yentinglin/aime_2025": Layout(_qa("problem", "answer"), gold=whole_number),
    "math-ai/amc23": Layout(_qa("question", "answer"), split="test", gold=whole_number),
    "math-ai/minervamath": Layout(_qa("question", "answer"), split="test"),
    "Hothan/OlympiadBench": Layout(
        _qa("question", "final_answer", subject="subfield"),
        ("OE_TO_maths_en_COMP",),
        prepare=_olympiad,
    ),
    "Idavidrein/gpqa": _GPQA,
}
"""By the id on the hub."""

KNOWN_BY_COLUMNS = (
    _GPQA,
    _VERL,
    Layout({"answer": "answer_latex"}, prepare=_minerva, needs=("answer", "answer_latex")),
)
"""Of files and data sets in memory that no id speaks for."""


def layout_of(spec: str) -> Layout | None:
    """The layout of a hub id, or of a file or folder below a folder that ends in one."""
    parts = Path(spec).parts
    ids = ("/".join(pair) for pair in pairwise(parts))
    return next((LAYOUTS[id_] for id_ in ids if id_ in LAYOUTS), None)


def layout_by_columns(columns: Iterable[str]) -> Layout:
    """The layout whose columns are all there; ours if none is."""
    present = set(columns)
    return next((known for known in KNOWN_BY_COLUMNS if present >= set(known.needs)), Layout())
