"""Numbers in words, as the page writes them."""

from gdro.core.seeds import Difference


def count(value: float | None) -> str:
    """12.3 k, 4.5 M; a dash for None."""
    if value is None:
        return "–"
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= size:
            return f"{value / (1000 if suffix == ' k' else size):.3g}{suffix}"
    return f"{value:,.0f}"


def percent(value: float | None) -> str:
    """12.3%."""
    return "–" if value is None else f"{value:.1%}"


def duration(value: float | None) -> str:
    """1 h 02 min."""
    if value is None:
        return "–"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours:,} h {minutes:02} min"
        if hours
        else f"{minutes} min {seconds:02} s"
        if minutes
        else f"{value:.1f} s"
    )


def interval(value: Difference | None) -> str:
    """A mean with half its interval, 12.3% ± 0.4."""
    if value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.mean:.1%}"
    return f"{value.mean:.1%} ± {50 * (value.high - value.low):.1f}"
