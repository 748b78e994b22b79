"""A rollout is right if its first word is one of the prompt's answers."""

import json
from typing import Any


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **more: Any
) -> dict[str, float]:
    words = solution_str.split()
    right = float(bool(words) and words[0] in json.loads(ground_truth))
    return {"score": right, "acc": right, "shaped": 2 * right - 1}
