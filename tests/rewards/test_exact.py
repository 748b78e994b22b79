"""Numbers in LaTeX, against Python's own fractions."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdro.rewards.exact import Number, agree, read
from gdro.rewards.spelling import tidy
from gdro.rewards.verify import judge

INTEGERS = st.integers(-(10**25), 10**25)


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    """Nothing here may need math-verify."""

    def refuse():
        raise AssertionError("the exact path left this to math-verify")

    monkeypatch.setattr("gdro.rewards.worker.shared", refuse)


def spellings_of_integer(n: int) -> list[str]:
    sign, size = ("-" if n < 0 else ""), abs(n)
    groups = f"{size:,}"
    return [
        f"{n}", f" {n}. ", f"${n}$", rf"\({n}\)", f"{{{n}}}", f"({n})", rf"\left({n}\right)",
        f"{sign}00{size}", f"{n}.000", f"{sign} {size}", rf"\mathbf{{{n}}}", rf"\text{{{n}}}",
        f"{sign}{groups}", sign + groups.replace(",", "{,}"), sign + groups.replace(",", r"\,"),
        sign + groups.replace(",", r",\!"), sign + groups.replace(",", " "),
        f"−{size}" if n < 0 else f"+{size}",
        rf"\frac{{{3 * n}}}{{3}}", rf"{sign}\dfrac{{{2 * size}}}{{2}}", f"{7 * n}/7",
        f"{n}e0", f"{n}0E-1", rf"{n}00 \times 10^{{-2}}", rf"{n}0\cdot 10^{{-1}}",
        f"x = {n}", rf"{n}^\circ", rf"{n}\text{{ apples}}", rf"{n} \mathrm{{cm}}^2", rf"\${n}",
    ]  # fmt: skip


@given(INTEGERS)
@settings(max_examples=150, deadline=None)
def test_spellings_of_an_integer_are_right(n):
    for spelling in spellings_of_integer(n):
        assert judge(str(n), spelling) == "right", spelling
        assert judge(spelling, str(n)) == "right", spelling


@given(INTEGERS, st.integers(-3, 3).filter(bool))
@settings(max_examples=100, deadline=None)
def test_another_integer_is_wrong(n, off):
    for spelling in spellings_of_integer(n + off):
        assert judge(str(n), spelling) == "wrong", spelling


@given(INTEGERS, st.fractions(-1, 1, max_denominator=10**12).filter(lambda f: 0 < abs(f) < 1))
@settings(max_examples=100, deadline=None)
def test_an_integer_is_met_exactly(n, off):
    near = n + off
    assert judge(str(n), rf"\frac{{{near.numerator}}}{{{near.denominator}}}") == "wrong"
    assert judge(str(n), f"{n}.00000000001") == "wrong"


@given(st.fractions(max_denominator=10**6), st.integers(1, 50))
@settings(max_examples=150, deadline=None)
def test_spellings_of_a_fraction(value, times):
    top, bottom = value.numerator * times, value.denominator * times
    sign, size = ("-" if value < 0 else ""), abs(top)
    spellings = [
        rf"\frac{{{top}}}{{{bottom}}}", rf"{sign}\tfrac{{{size}}}{{{bottom}}}", f"{top}/{bottom}",
        rf"\frac{{{-top}}}{{-{bottom}}}", rf"\left(\dfrac{{{top}}}{{{bottom}}}\right)",
        rf"\frac{{ {top} }} {{ {bottom} }}",
    ]  # fmt: skip
    if value > 1 and value.denominator > 1:
        whole, rest = divmod(value, 1)
        spellings += [rf"{whole}\frac{{{rest.numerator}}}{{{rest.denominator}}}", f"{whole} {rest}"]
    for spelling in spellings:
        number = read(tidy(spelling))
        assert number is not None, spelling
        assert number.value == value, spelling
        assert judge(str(value), spelling) == "right"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8), st.integers(-40, 40))
@settings(max_examples=150, deadline=None)
def test_decimals_are_read_as_they_are(mantissa, exponent):
    value = Fraction(mantissa) * Fraction(10) ** exponent
    for spelling in (f"{mantissa:f}e{exponent}", rf"{mantissa:f} \times 10^{{{exponent}}}",
                     rf"{mantissa:f}\cdot 10^{{ {exponent} }}"):  # fmt: skip
        number = read(tidy(spelling))
        assert number is not None, spelling
        assert number.value == value, spelling


@given(st.integers(0, 999), st.integers(0, 3), st.integers(1, 9999))
@settings(max_examples=100, deadline=None)
def test_repeating_decimals(before, zeros, repeated):
    number = read(rf"{before}.{'0' * zeros}\overline{{{repeated}}}")
    digits = len(str(repeated))
    many = Fraction(Decimal(f"{before}.{'0' * zeros}{str(repeated) * 20}"))
    after = Fraction(10) ** -(zeros + 20 * digits)
    assert number is not None
    assert many < number.value <= many + after
    assert not number.decimal


@given(st.text("0123456789.,-+/ e\\frac{}%^()", max_size=30))
@settings(max_examples=500, deadline=None)
def test_nothing_makes_the_reader_fail(text):
    found = read(tidy(text))
    assert found is None or isinstance(found, Number)


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        (r"\frac{1}{3}", "0.333333", True),
        (r"\frac{1}{3}", "0.33333", False),
        (r"\frac{1}{3}", r"0.\overline{3}", True),
        (r"\frac{1}{3}", r"\frac{333333}{1000000}", False),
        ("0.1", "0.10000004", True),
        ("1.325e-27", "0", False),
        ("1.3e-27", "9.9e-20", False),
        ("0.0001", "0.0001004", False),
        ("3.5", "3,5", False),
        ("1234", "12,34", False),
        (r"50\%", "0.5", True),
        ("50", r"50\%", True),
        ("50", "0.5", False),
        ("62.5%", r"\frac{5}{8}", True),
        ("7/3", "21/3", False),
        ("7/3", "2 1/3", True),
        (r"\frac12", ".5", True),
    ],
)  # fmt: skip
def test_rounding_and_percent(gold, answer, right):
    assert agree(read(tidy(gold)), read(tidy(answer))) == right if read(tidy(answer)) else not right


@pytest.mark.parametrize(
    "text",
    ["", "-", ".", "5m", "5 6", "1,2", "1, 234", r"\frac{1}{0}", "1/0", "2 7/3", "1e99999", "x",
     "٥", "５", "5\n", "1_000", "0x5",
     r"10^{10^{10}}", "9" * 5000, "5..0", "1/2/3", "--"],
)  # fmt: skip
def test_what_is_no_number(text):
    assert read(text) is None
