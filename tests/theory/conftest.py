"""What was measured, beside its bound: asserted as it is entered, printed at the end of a run."""

import operator
from collections.abc import Callable
from pathlib import Path

import cvxpy as cp
import pytest

_RELATIONS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
_KEY = "theory"


@pytest.fixture
def theory_table(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`theory_table(name, measured, relation, bound)` asserts the relation and enters a row.

    The relation "=" takes the keyword arguments of `pytest.approx`.
    """

    def enter(name: str, measured: float, relation: str, bound: float, **within: float) -> None:
        # Rows travel with the report of their test.
        request.node.user_properties.append((_KEY, (name, float(measured), relation, float(bound))))
        if relation == "=":
            assert measured == pytest.approx(bound, **within), name
        else:
            assert _RELATIONS[relation](measured, bound), f"{name}: {measured} {relation} {bound}"

    return enter


@pytest.fixture(scope="session")
def solve() -> Callable[[cp.Problem], float]:
    """Solves a convex problem to more digits than by default; returns its value."""

    def solved(problem: cp.Problem) -> float:
        close = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-9)
        linear = problem.is_lp()
        value = problem.solve(cp.HIGHS) if linear else problem.solve(cp.CLARABEL, **close)
        assert problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE), problem.status
        return float(value)

    return solved


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.get_verbosity() < 0:
        return
    topics: dict[str, list[tuple[str, float, str, float]]] = {}
    for kind in ("passed", "failed"):
        for report in terminalreporter.stats.get(kind, []):
            topic = Path(report.nodeid.partition("::")[0]).stem.removeprefix("test_")
            rows = [row for key, row in report.user_properties if key == _KEY]
            if rows and report.when == "call":
                topics.setdefault(topic.replace("_", " "), []).extend(rows)
    if not topics:
        return
    terminalreporter.section("theory: measured against its bound")
    width = max(len(name) for rows in topics.values() for name, *_ in rows)
    for topic in sorted(topics):
        terminalreporter.write_line(topic)
        for name, measured, relation, bound in topics[topic]:
            line = f"  {name:{width}}  {_number(measured):>10} {relation:2} {_number(bound)}"
            terminalreporter.write_line(line)


def _number(x: float) -> str:
    if x and abs(x) < 1e-3:
        return f"{x:.1e}"
    return f"{x:,.1f}" if abs(x) >= 100 else f"{x:.4g}"
