"""What counts as equal, and what is refused: docs/verifier.md in pairs."""

import pytest

from gdro.rewards import exact, guards, spelling, verify
from gdro.rewards.symbolic import Question, compare
from gdro.rewards.verify import check_golds, judge

RIGHT = {
    "numbers": [("42", "42."), ("1234567", r"1\,234\,567"), ("1234567", "1{,}234{,}567"),
                (r"\frac{7}{3}", "2 1/3"), (r"\frac{1}{3}", r"0.\overline{3}"), ("6", "2(3)"),
                ("6", r"2\cdot(3)"), ("0.3", r"\frac{3}{10}"), ("5", r"\sqrt[2]{25}"),
                ("2^{1009}", r"2\cdot 2^{1008}"), (r"\sqrt{2}", r"\frac{2}{\sqrt{2}}"),
                (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"), ("120", "5!"), ("5", r"5\degree"),
                (r"1080\pi", r"1,080\pi"), (r"1080\pi", r"1\,080\pi"), ("1", r"e^{2\pi i}"),
                (r"\cos 60^\circ", r"\frac{1}{2}"), ("2i", "(1+i)^2"), ("-1", "i^2"), (r"\pi",
                r"\pi \approx 3.14"), (r"2007 + \frac\pi 2", r"\frac{4014+\pi}{2}"), ("5",
                r"\phantom{7}5"), ("10", r"\dbinom52"), ("3i", r"\sqrt{-9}"), ("-6", "(2i)(3i)"),
                ("2+3i", r"2+3\mathrm{i}"), ("660", "66E1")],
    "formulas": [("x^2-1", "(x-1)(x+1)"), ("x", "2x-x"), (r"\sin 2x", r"2\sin x\cos x"),
                 ("E_{1}+E_2", "E_2+E_1"), ("f'(x)", "f'(x)+0"), (r"\frac{1}{2}mv^2", "0.5mv^2"),
                 (r"n(n+1)!", "(n+1)(n!)n"), ("e^{-x}", r"\frac{1}{e^x}"), ("2^{T}", "(2^T)"),
                 (r"m_{\max}+1", r"1+m_{\max }"), (r"|x-1|", r"|1-x|"), (r"I\omega", r"\omega I"),
                 ("xy", r"x \cdot y"), ("xy", "yx"),
                 (r"xe^{-x}", r"x\mathrm{e}^{-x}")],
    "lists": [("1,2", "2,1"), (r"\{1,2\}", "2,1"), ("(1,2)", "1,2"), (r"\{5\}", "5"),
              (r"x=1,x=2", "1,2"), (r"-2,1", r"x=-2 \text{ or } x=1"), (r"1\pm\sqrt{2}",
               r"1-\sqrt{2},1+\sqrt{2}"), ("221, 8", "221,$8$"), (r"(1,2),(3,4)", "(3,4),(1,2)"),
              (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}"),
              (r"\text{A, B}", "B, A"), ("1,1,2", "1,2,1")],
    "intervals": [(r"\emptyset", r"\varnothing"), (r"(-\infty,-5)", "x<-5"), ("(0,1]", r"0<x\le 1"),
                  (r"(-\infty,0)\cup\{1\}", r"\{1\}\cup(-\infty,0)."), ("t(0,4]", "(0,4]"),
                  (r"x\in[1,2]", "[1,2]"), (r"\mathbb{R}\setminus\{0\}",
                  r"\mathbb{R}\setminus\{0\}"), (r"(\frac{1}{2},1)", "(0.5,1)")],
    "equations": [("y=2x+1", "2x-y+1=0"), ("y=2x+1", "2x+1"), ("5", "x=5"), ("33", "m+n=33"),
                  ("x^2+y^2=4", "2x^2+2y^2=8"), ("x<3", "3>x"), ("x<3", "-x>-3"),
                  ("5", r"x = 2+3 = 5"), ("5", r"\text{Area} = 5"), ("5", r"\theta = 5"),
                  ("5", r"\overline{AB} = 5"), ("0<x<1", "1>x>0"), (r"\frac{dM}{dt}=2M", "2M")],
    "words and marks": [(r"\text{(C)}", "C"), (r"\text{east}", "East"), ("2516_8", "2516_{8}"),
                        ("-37_8", "-37_{8}"), ("05:00", "5:00"), (r"5 \text{ cm}", "5"),
                        ("5", r"5\text{ cm}"), (r"50\%", "50"), (r"50\%", "0.5"),
                        (r"10\text{ square inches}", r"10\text{ inches}^2"),
                        (r"\text{October 30}", "October 30"), ("5", r"\$5"),
                        ("A,C", r"\text{A and C}"), ("A,C", r"A \text{ and } C"),
                        ("A,C", r"\text{(A), (C)}"), ("5", r"\text{5 cm}"),
                        ("5", r"5 \text{ apples and pears}"), ("5", r"5\text{ cm}^{-3}"),
                        ("5", r"5\ \mathrm{kg} \cdot \mathrm{m} / \mathrm{s}^2"),
                        ("5", r"5\,\mathrm{kg \cdot m\, s^{-2}}"), ("5", r"5\,\mu\text{m}"),
                        (r"5\text{ s}", r"5\text{ seconds}"), (r"5\text{ m}/\text{s}^2",
                        r"5\text{ m/s}^2"), (r"5\text{ km/h}", r"5\text{ km per hour}")],
}  # fmt: skip

WRONG = {
    "numbers": [("5", "2 3"), ("6", "2 3"), ("5", "2(3)"), (r"\frac{13}{3}", r"2\frac{7}{3}"),
    ("11", "{5}{6}"), ("5", "5_3"), ("5", "5_{7}"), ("56", r"5\$6"), ("5", "٥"), ("5", "5²"), ("2",
                "2^{T}"), ("1.3e-27", "9.9e-20"), ("(1.3e-27,1)", "(9.9e-20,1)"), ("e^{-100}", "0"),
                ("2^{1009}", "2^{1009}+1"), ("2", "2^{1.0000001}"), (r"\pi", "3.14159"),
                (r"\pi", r"\frac{355}{113}"), ("0", "10^{-50}"), (r"\cos 60^\circ", r"\cos 60"),
                ("5", "1.5"), ("5", r"\frac{5}{0}"), ("5", "5'"), ("100", "1,00"), ("i", "-i")],
    "formulas": [("x+y", "X+Y"), ("a+A", "2a"), (r"\frac{M}{m}", "1"), ("f'(x)", "f(x)"),
                 ("y''+y", "2y"), ("x", "x+10^{-20}"), ("x", "x+10^{-999}"), ("x", r"|x|"),
                 ("x", r"\sqrt{x^2}"), ("x-100", "|x-100|"), ("I^2R", "IR"), (r"\ln 2",
                 r"\log 2"), ("p-q", "q-p"), (r"\sin^2 x", r"\sin x^2"), ("x^2", "x^{2.0001}")],
    "lists": [("5", "5,5"), ("5", "[5,5]"), ("5", r"\{5,5\}"), ("-i", "-i,-i"), ("5", "5,6"),
    ("1,2", "1,1,2"), ("1,1,2", "1,2,2"), ("(1,2)", r"\{1,2\}"), ("(1,2)", "(2,1)"), ("(1,2)",
    "[1,2]"), ("1100", "(1,100)"), ("(1,100)", "1100"), ("5", r"5 \text{ or } 6"), ("5", r"\pm 5"),
              (r"\{1,2,3\}", r"\{1,2,3\}\cup\{4\}"), ("1,2,10", r"1,2,\ldots,10"),
              (r"1,2,\ldots,10", "1,2,10"),
              (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}")],
    "intervals": [("(0,1)", r"0\le x<1"), (r"\emptyset", r"\{0\}"), (r"(-\infty,-5)", r"x\le -5"),
                  ("(0,1]", r"(0,1]\cup\{2\}"), (r"x\in[1,2]", "(1,2)"), ("(0,1]", "[0,1)")],
    "equations": [("5", "3=5"), ("5", "2+3=5"), ("5", "5=5"), ("5", "x=3=5"), ("5", "x=5=6"),
                  ("5", "@ = & = 5"), ("5", r"\infty=5"), ("5", r"\overline\!=5"),
                  (r"25^\circ", r"-25^\circ=25^\circ"), (r"\begin{pmatrix}1\\2\end{pmatrix}",
                  r"\begin{pmatrix}3\\4\end{pmatrix}=\begin{pmatrix}1\\2\end{pmatrix}"),
                  ("5", "x==5"), ("x=3", "y=3"), ("x^2+1=0", "x^2+2=0"),
                  ("x^2+1=0", "e^x=0"), ("x<3", "x>3"), ("x<3", "-x<-3"), ("5", r"x\ne 5"),
                  ("5", r"x\ge 5"), ("5", r"x\notin\{5\}"), ("x=1", "x=x^2=1=2"), ("5",
                  r"17\approx 5"), ("y=2x+1", "y=2x"), ("x=2", "x=x+0x=3")],
    "words and marks": [("AB", "BA"), ("2516_8", "2516"), ("2516_8", "2516_9"), ("5m", "5"), ("5",
    "5m"), (r"5 \text{ cm}", r"5 \text{ m}"), ("05:00", "5"), ("5", r"\text{five}"),
                        (r"\text{A, B}", "A"), (r"\text{A, B}", "A, B, C"), ("50", "0.5"),
                        ("5", "the answer is 5"), ("5", r"5\text{ million}"),
                        ("5", r"5\text{ millions}"), ("5", r"5\text{ tenths}"), ("5",
                        r"5\text{ minutes less}"), ("5", r"5\text{ times six}"), ("5",
                        r"\text{5 or six}"), ("5", r"5\text{ OR six}"), ("5", r"5\mathrm{i}"),
                        ("5", r"5\text{ k}"), ("5", r"5\mathrm{x}"), (r"5\text{ mW}",
                        r"5\text{ MW}"), (r"5\text{ ms}", r"5\text{ m}"), ("AB", "B A"),
                        (r"5\text{ m/s}", r"5\text{ m s}"), ("A,C", r"\text{A or C}")],
}  # fmt: skip


@pytest.mark.parametrize("topic", RIGHT)
def test_equal_answers_are_right(topic):
    odd = [(gold, answer) for gold, answer in RIGHT[topic] if judge(gold, answer) != "right"]
    assert not odd


@pytest.mark.parametrize("topic", WRONG)
def test_other_answers_are_not_right(topic):
    odd = [(gold, answer) for gold, answer in WRONG[topic] if judge(gold, answer) == "right"]
    assert not odd


def test_every_gold_of_these_verifies_against_itself_when_read():
    golds = [gold for pairs in (*RIGHT.values(), *WRONG.values()) for gold, _ in pairs]
    assert [golds[row] for row in check_golds(golds)] == []


def test_prose_is_a_gold_by_its_words():
    gold = "$f(x)=ax+b$, where $b$ is an arbitrary integer, and $a$ is a positive integer"
    assert check_golds([gold]) == []
    assert verify([gold], [rf"\boxed{{{gold}}}"]) == ["right"]
    assert verify([gold], [r"\boxed{f(x)=ax+b}"]) == ["wrong"]


def test_python_is_no_latex():
    for gold in ("np.arcsin(10/13)", "sqrt(2)*x**2"):
        assert judge(gold, gold) == "right"  # spelled alike
    assert judge(r"\arcsin \frac{10}{13}", "np.arcsin(10/13)") == "unparsed"
    assert judge("-1./3", r"-\frac{1}{3}") == "right"
    assert judge("4.5e33", r"4.5 \times 10^{33}") == "right"


def test_a_tolerance_is_relative_to_every_gold():
    def agree(gold, answer, tolerance):
        gold, answer = exact.read(gold), exact.read(answer)
        return exact.agree(gold, answer, tolerance)

    assert not agree("1000", "1000.05", 0.0)
    assert agree("1000", "1000.05", 1e-4)
    assert agree("1000", "1000.1", 1e-4)
    assert not agree("1000", "1000.11", 1e-4)
    assert agree("1e-9", "1.00005e-9", 1e-4)
    assert not agree("1e-9", "1.0002e-9", 1e-4)
    assert not agree("0", "1e-9", 1e-4)
    assert agree(r"50\%", "0.50001", 1e-4)

    def formula(gold, answer, tolerance):
        return compare(Question(gold, answer, tolerance))

    assert formula("1.2345x", "1.23456x", 1e-4) == "right"
    assert formula("1.2345x", "1.23456x", 0.0) == "wrong"
    assert formula("1.2345x", "1.235x", 1e-4) == "wrong"
    assert formula(r"10\pi", "31.416", 1e-4) == "right"
    assert formula(r"10\pi", "31.416", 0.0) == "wrong"
    assert formula("(1,2)", "(1.00001,2)", 1e-4) == "right"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("1" * 1001, "longer than"),
        ("(" * 41 + "1" + ")" * 41, "nested deeper"),
        ("1," * 64 + "1", "elements"),
        (r"\begin{matrix}" + "1&" * 65 + r"\end{matrix}", "elements"),
        ("x+" * 300, "symbols"),
        ("|" * 20, "bars"),
        ("1" * 401, "digits"),
        (r"\sum_{k=1}^n k", "a sum"),
        (r"1,\dots,9", "dots"),
        ("9^{9^9}", "exponent within"),
        ("a^{10^9}", "exponent within"),
        ("9^{99999}", "power"),
        ("66E3100,000", "power"),
        ("((9^{999})^{999})^{999}", "power"),
        ("9999!", "power"),
        ("(10^9)!", "power"),
        (r"\binom{99999}{9}", "power"),
        ("3=5", "constant left"),
        ("x==5", "=="),
        (r"\foo{5}", "foo"),
        (r"\operatorname{zeros}(99)", "zeros"),
        (r"\begin{foo}5\end{foo}", "foo"),
        (r"\Gamma(9)", "Gamma"),
    ],
)
def test_refusals_are_named_and_spare_the_gold(answer, why):
    assert why in (guards.refusal("5", answer) or "")
    if why != "constant left":
        assert guards.refusal(answer, answer) is None


def test_invisible_things_are_left_out():
    assert spelling.tidy(r"\phantom{-}1 \hspace{3mm}") == "1"
    assert spelling.tidy(r"\begin{pmatrix} 1 & \phantom -1 \end{pmatrix}") == (
        r"\begin{pmatrix} 1 & 1 \end{pmatrix}"
    )


def test_what_no_one_can_kill_takes_no_long_time():
    """The parent process reads texts before a guard has seen them."""
    long = 20_000
    assert not spelling.has_text(r"\text{" + "a" * long + "{}}")  # cubic would take hours
    assert spelling.tidy("5" + " " * long + "and" + " " * long + "!") == "5 and !"
    assert spelling.split_unit("5" + r"\text{a} " * 200 + "!").unit is None  # in units squared
    deep = "(" * 12 + "5" + ")" * 12
    assert spelling.tidy(deep) == "5"
    assert spelling.tidy("(" * long + "5" + ")" * long).startswith("((")
