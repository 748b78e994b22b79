"""How numbers are put: intervals, spans."""

from typing import Any

Report = dict[str, Any]
METRICS = ("mean", "pass@8")
SHORT = {"mean": "mean@8", "pass@8": "pass@8"}


def number(x: float | None, form: str = ".2f") -> str:
    return "–" if x is None else f"{x:{form}}"


def gain(found: dict[str, Any]) -> str:
    """A mean with its interval."""
    if found["low"] is None:
        return f"{found['mean']:+.3f} (one pair)"
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def percent(found: dict[str, Any], form: str = "+.0%") -> str:
    if found["low"] is None:
        return f"{found['mean']:{form}}"
    return f"{found['mean']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def effect(score: str, found: dict[str, Any]) -> str:
    """What an interval allows to say of a gain over GRPO."""
    said = "raises" if found["low"] > 0 else "lowers" if found["high"] < 0 else "leaves"
    more = "" if said != "leaves" else " where it was, as far as these runs can tell"
    return f"{said} {score}{more} ({gain(found)})"


def side(found: dict[str, Any]) -> str:
    """What an interval of a relative difference allows to say."""
    said = "above" if found["low"] > 0 else "below" if found["high"] < 0 else None
    return f"{said or 'not significantly different'} ({percent(found)})"


def span(values: list[float | None], form: str = ".2f") -> str:
    known = [v for v in values if v is not None]
    return f"{min(known):{form}} to {max(known):{form}}" if known else "–"


def noise(stage: dict[str, Any], name: str) -> float:
    return stage["allocation"]["std, neutral"][name]["attained"]
