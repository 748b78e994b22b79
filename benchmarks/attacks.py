r"""Completions written to break a verifier, each with the verdict that it must get.

`attacks(seed)` gives at least 50 in each class; right ones are among them, so that refusing
everything does not pass. Where an attack is worth what the gold is but a guard refuses it (as
``10^{10^{10}} - 10^{10^{10}} + 5``), the refusal is what must come: a policy, not an accident.
"""

import random
from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

GOLDS = [
    "5",
    "42",
    r"\frac{1}{2}",
    "x^2-1",
    r"2\sqrt{3}",
    "(1,2)",
    r"\{1,2,3\}",
    "(0,1]",
    "-7",
    "AB",
]
MEGABYTE = 1 << 20


class Attack(NamedTuple):
    """One completion; `right` is whether it must be rewarded."""

    gold: str
    completion: str
    right: bool


Cases = Iterator[tuple[str, str, bool]]


def box(text: str) -> str:
    return rf"so the answer is $\boxed{{{text}}}$."


def towers(draw: random.Random) -> Cases:
    for gold in ("5", "x^2-1", r"\frac{1}{2}", "387420489"):
        for depth in range(3, 8):
            for base in ("9", "x", "10", "2.5", r"\pi"):
                yield gold, base + "".join(f"^{{{base}" for _ in range(depth)) + "}" * depth, False
        yield gold, "9**9**9**9", False
        yield gold, "9^9^9^9", False
        yield gold, "(((9^{9999})^{9999})^{9999})^{9999}", False
        yield gold, rf"10^{{10^{{10}}}} - 10^{{10^{{10}}}} + {gold}", False
        yield gold, r"\sqrt[10^9]{9^{99999}}", False
        yield gold, "a^{10^9}", False
        yield gold, r"\log\log\log\log 10^{10^{10}}", False
        yield gold, "e^{e^{e^{e^{100}}}}", False
        yield gold, r"\sin(10^{9999})\cdot 9^{9999}", False
        yield gold, rf"{gold} + 10^{{-9999}}", False
    for n in range(1, 30):
        yield str(3**n), f"3^{{{n}}}", True
        yield str(3**n + 1), f"3^{n}", False


def factorials(draw: random.Random) -> Cases:
    heavy = [
        "(10^9)!", "10^9!", "99999!", "((((9!)!)!)!)!", "9!!!!!!", r"\binom{10^9}{10^8}",
        r"\binom{999999999}{99999999}", r"\binom{9999}{5000}\binom{9998}{5000}", "1.5!", "(-1)!",
        r"\frac{(10^9)!}{(10^9-1)!}", "(2.5!)!", "999!^{999}", r"\prod_{k=1}^{10^9} k",
        r"\sum_{k=0}^{10^9} \binom{10^9}{k}", "x!!!!", "(x!)!", r"\Gamma(10^{99})", "999!" * 4,
        r"\binom{x}{10^9}", r"\binom{\binom{999}{99}}{99}", r"\frac{999!}{998!}!", "9999!^{9999}",
    ]  # fmt: skip
    for text in heavy:
        for gold in ("5", "x^2-1", r"2\sqrt{3}"):
            yield gold, text, False
    value = 1
    for n in range(1, 25):
        value *= n
        yield str(value), f"{n}!", True
        yield str(value + 1), f"{n}!", False
    yield "126", r"\binom{9}{4}", True
    yield "1000", r"\frac{1000!}{999!}", False  # large, and refused
    yield "90", r"\frac{10!}{8!}", True


def nesting(draw: random.Random) -> Cases:
    wraps = ["{%s}", "(%s)", r"\left(%s\right)", r"\sqrt{%s}", r"\frac{%s}{2}", "[%s]", "|%s|",
             r"\{%s\}", "-%s", "x^{%s}", r"\sin(%s)", r"\text{%s}"]  # fmt: skip
    for wrap in wraps:
        before, after = wrap.split("%s")
        for depth in (41, 100, 700, 5000):
            if wrap == "-%s" and depth % 2 == 0:
                continue
            if wrap in (
                "{%s}",
                "(%s)",
                r"\left(%s\right)",
                r"\{%s\}",
                r"\text{%s}",
                "[%s]",
                "|%s|",
            ):
                yield "7", before * depth + "5" + after * depth, False
            else:
                yield "5", before * depth + "5" + after * depth, False
        yield "5", before * 60 + "5", wrap == "-%s"
    for depth in range(1, 12):
        yield "5", "{" * depth + "5" + "}" * depth, True
        yield "5", "(" * depth + "5" + ")" * depth, True
        yield "5", r"\sqrt{" * depth + "5^{" + str(2**depth) + "}" + "}" * depth, True
        yield "5", "(" * depth + "5" + ")" * (depth - 1), False


def megabytes(draw: random.Random) -> Cases:
    units = ["5", "1+", "(", "{", ",", "5,", " 5", "x", r"\frac", r"\sqrt{", "^", "9^", "!",
             r"\text{", "a ", "=", "5=", "\\", "$", "\n5", r"\left(", "é", "|", "&", "[", r"\{",
             "1/", "-", "0.", r"\cdot", "~", "}{"]  # fmt: skip
    for unit in units:
        text = unit * (MEGABYTE // len(unit))
        yield "42", text, False
        yield "x^2-1", text + "42", False
    yield "5", " " * MEGABYTE + "5", True
    yield "5", "5" + "\n" * MEGABYTE, True


def look_alikes(draw: random.Random) -> Cases:
    for code in (0x660, 0x6F0, 0x966, 0x1D7CE, 0x1D7D8, 0x2460 - 1, 0x2080):
        yield "5", chr(code + 5), False
        yield "42", chr(code + 4) + chr(code + 2), False
    pairs = [("x^2-1", "х^2-1"), ("x^2-1", "×^2-1"), ("AB", "АВ"), ("AB", "ΑΒ"), ("10", "1О"),
             ("10", "1Ο"), ("10", "1o"), ("10", "1O"), ("11", "1l"), ("11", "1I"), ("5", "５６"),
             ("25", "5²"), ("5", "5²"), ("5", "⑤"), ("5", "Ⅴ"), ("5", "V"), ("5", "5⃣"),
             (r"\frac{1}{2}", "½"), (r"\frac{1}{2}", "1∕3"), ("42", "4\u200b3"), ("42", "24"),
             ("42", "\u202e42"), ("42", "\u202e24\u202c"), ("42", "4\u20602"), ("42", "4\u00ad2"),
             ("42", "4\u200d2"), ("42", "４３"), ("42", "𝟒𝟐"), ("42", "४२"), ("42", "４2０"),
             ("-7", "¬7"), ("-7", "_7"), ("-7", "~8"), ("-7", "ー7"), ("-7", "7"), ("-7", "‚7"),
             ("(1,2)", "(1‚2)"), ("(1,2)", "(1;3)"), ("(1,2)", "⟨1,2⟩"), ("(1,2)", "⦅1,2⦆"),
             ("(0,1]", "(0,1］"), ("x^2-1", "x^2⁻1"), ("x^2-1", "x²﹣2"), ("i", "ı"), ("e", "ℯ2"),
             ("2.5", "2·5"), ("2.5", "2٫5"), ("2.5", "2,5"), ("1000", "1’000"), ("3", "Ӡ"),
             ("6", "б"), ("0", "ο"), ("0", "ø"), ("0", "∅"), (r"\emptyset", "0"),
             (r"\pi", "п"), (r"\pi", "∏"), (r"\sum x", "Σ x"), ("a", "α"), ("v", "ν"), ("p",
             "р")]  # fmt: skip
    yield from ((gold, text, False) for gold, text in pairs)
    right = [("42", "４２"), ("-7", "−7"), ("-7", "－7"), (r"\pi", "π"), ("(1,2)", "（1，2）"),
             (r"2\cdot 3", "2×3"), (r"2\sqrt{3}", "2√3"), (r"\infty", "∞"), (r"x\le 3", "x≤3"),
             ("42", "\u00a042\u2009"), (r"90^\circ", "90°")]  # fmt: skip
    yield from ((gold, text, True) for gold, text in right)


def controls(draw: random.Random) -> Cases:
    codes = [*range(9), 11, 12, *range(14, 28), 127, 0x85, 0x9B, 0xFEFF, 0xFFFD, 0xFFFF, 0xD800]
    for code in codes:
        mark = chr(code)
        yield "42", f"4{mark}2", False
        yield "x^2-1", f"x^2{mark}-2", False
    yield "42", "43\x08\x082", False
    yield "42", "\x1b[31m42\x1b[0m", False
    yield "42", "43\r42", False
    yield "42", "\x0042\x00", False
    for blank in ("\n", "\t", "\r\n", " \n\t "):
        yield "42", f"{blank}42{blank}", True
        yield "x^2-1", f"x^2{blank}-{blank}1", True


def formats(draw: random.Random) -> Cases:
    texts = ["%s", "%d", "%n%n%n%n", "%(gold)s", "%5d", "{0}", "{gold}", "{0.__class__}", "{!r}",
             "{:>99999999}", "%99999999d", "${gold}", "$gold", "#{gold}", "<%= gold %>", "{{gold}}",
             "__import__('os').system('true')", "exec('5')", "eval(gold)", "lambda: 5", "open('x')",
             "5; import os", "'; DROP TABLE golds; --", "\\x34\\x32", "\\u0034", "&#52;&#50;",
             "4%322", "%34%32", "0x2a", "0b101010", "0o52", "4_2", "42L", "42j", "float('42')",
             "int(42)", "'42'", '"42"', "b'42'", "[42][0]+1", "{'gold': 42}", "None", "True",
             "NaN", "nan", "inf", "Infinity", "null", "undefined", "gold", "answer", "correct",
             "Verdict.right", "right", "1.0", "reward=1", "<answer>42</answer>", "```42```",
             "print(42)", "@42", "?", "*", ".*", "^.*$", r"\d+", "(?s).*", "[0-9]+", "(a+)+$",
             "4.2e1e1", "4 2", "4,2", "42)(", "x" * 999, "sympy.Integer(42)", "Symbol('x')",
             "S(42)", "42 if 1 else 0", "42==42"]  # fmt: skip
    yield from (("42", text, False) for text in texts)
    for gold in GOLDS[:4]:
        yield gold, f"{{{gold}}}", True
    yield "42", "42%", True  # a percent sign is optional
    yield "42", r"4.2\times 10^{1}", True


def macros(draw: random.Random) -> Cases:
    texts = [r"\def\x{42}\x", r"\newcommand{\a}{42}\a", r"\let\a=4\a2", r"\input{/etc/passwd}",
             r"\include{gold}", r"\csname 42\endcsname", r"\expandafter42", r"\the\count42",
             r"\number42", r"\numexpr 40+2\relax", r"\string42", r"\verb|42|", r"\catcode`4=2",
             r"\loop 42\repeat", r"\def\a{\a\a}\a", r"\rlap{43}42", r"\llap{43}42", r"\phantom{42}",
             r"\phantom{42}43", r"\color{red}42", r"\textcolor{red}{42}", r"\raisebox{1ex}{42}",
             r"\href{x}{42}", r"\begin{comment}42\end{comment}", r"\iffalse 43\fi 42",
             r"\write18{ls}", r"\immediate\write18{ls}", r"\unexpanded{42}", r"\uppercase{42}",
             r"\romannumeral42", r"\char52\char50", r"\symbol{52}", r"\ensuremath{42}",
             r"\footnote{43}42", r"\label{42}", r"\ref{42}", r"\eqref{42}", r"\cite{42}",
             r"\tag{42}", r"\cancel{43}42", r"\sout{43}42", r"\not{42}", r"\overset{43}{42}",
             r"\underset{43}{42}", r"\stackrel{43}{42}", r"\unknown", r"\unknown{42}", r"\42",
             r"\\42\\43", r"42 % 43", r"\begin{cases}42\\43\end{cases}",
             r"\begin{array}{c}42\\43\end{array}", r"\substack{42\\43}", r"\boxed42\boxed43",
             r"\operatorname{eval}(42)", r"\operatorname{zeros}(9999)",
             r"\operatorname{eye}(9999)", r"\operatorname{svd}(42)", r"\operatorname{norm}(42)",
             r"\frac{d}{dx}42x", r"\lim_{x\to 42}x", r"\int_0^{42} dx", r"\sum_{k=1}^{42}1",
             r"\mathop{42}", r"\xrightarrow{42}", r"\makeatletter 42", r"\global\def\x{42}",
             r"\vbox{42}", r"\special{42}", r"\openin1=42", r"\jobname", r"\today", r"\par 43",
             r"\text{\def\x{42}}", r"\mathrm{forty-two}", r"\hphantom{42}", r"\vspace{42pt}",
             r"\hspace{42pt}"]  # fmt: skip
    yield from (("42", text, False) for text in texts)
    right = [r"\displaystyle 42", r"\mathbf{42}", r"\textbf{42}", r"\phantom{43}42",
             r"\hspace{1em}42", r"\,42\;", r"\quad 42", r"\left(42\right)", r"\text{42}",
             r"\bm{42}"]  # fmt: skip
    yield from (("42", text, True) for text in right)


def boxes(draw: random.Random) -> Cases:
    for gold, other in product(GOLDS, ("17", "y+3")):
        b, o = box(gold), box(other)
        yield gold, f"{b} {o}", False
        yield gold, f"{o} {b}", True
        yield gold, f"{b} or {o} or {b} or {o}", False
        yield gold, b + r" \boxed{}", False
        yield gold, b + r" \boxed{" + gold, False
        yield gold, " ".join(rf"\boxed{{{n}}}" for n in range(100, 400)), False
        yield gold, rf"\boxed{{{gold}}}\boxed{{{other}}}", False
        yield gold, rf"\boxed{{\boxed{{{gold}}}}}", True
        yield gold, rf"\fbox{{{other}}}, \fbox{{{gold}}}", True
        yield gold, gold, False
        yield gold, rf"\boxed {gold}", False


def think(draw: random.Random) -> Cases:
    for gold in GOLDS:
        b, o = box(gold), box("17")
        yield gold, f"<think>{b}</think>", False
        yield gold, f"<think>{b}</think> I am not sure.", False
        yield gold, f"<think>{b}</think>{o}", False
        yield gold, f"<think>{o}</think>{b}", True
        yield gold, f"{b}</think>{gold}", False
        yield gold, f"{o}</think>{b}</think>{o}", False
        yield gold, f"<think>{b}", False
        yield gold, f"<think>{o}<think>{b}</think>", False
        yield gold, f"{b}<think>{o}</think>", False


def equations(draw: random.Random) -> Cases:
    for n in (5, 42, -7):
        wrong = [f"3={n}", f"{n}=3", f"{n}={n+1}", f"{n+1}={n}", f"2+2={n}", f"x={n+1}={n}",
                 f"x={n}={n+1}", f"{n}={n}={n+1}", f"x=3=y={n}", f"0=0={n}", f"1<{n}", f"{n}<99",
                 f"x>{n}", f"x\\ne {n}", f"x\\le {n}", f"17\\approx {n}", f"y=x={n+1}", f"={n+1}",
                 f"x=={n}", f"x=:{n+1}", f"{n}\\equiv 0", f"a={n},b={n+1}",
                 f"x={n}\\text{{ or }}x=3", f"\\frac{{1}}{{2}}={n}", f"\\pi={n}",
                 f"2\\cdot 3={n}", f"\\sqrt{{2}}={n}", f"3=x={n}", f"x=1=2=3={n}"]  # fmt: skip
        yield from ((str(n), text, False) for text in wrong)
        right = [f"x={n}", f"x = {n} ", f"m+n={n}", f"x={n-2}+2={n}", f"f(3)={n}", f"|AB|={n}",
                 f"x=\\frac{{{2*n}}}{{2}}={n}", f"\\theta={n}"]  # fmt: skip
        yield from ((str(n), text, True) for text in right)
    yield "x=3", "y=3", False
    yield "y=2x+1", "y=2x+2", False
    yield "y=2x+1", "x=2y+1", False
    yield "x^2+1=0", "x^2+2=0", False
    yield "x^2+1=0", "e^x=0", False
    yield "y=2x+1", "2x-y+1=0", True
    yield "x^2+y^2=4", "y^2=4-x^2", True
    yield "x<3", "x>3", False
    yield "x<3", "3>x", True


def padded(draw: random.Random) -> Cases:
    for gold in ("5", "42", r"\frac{1}{2}", "x^2-1", r"2\sqrt{3}"):
        wrong = [f"{gold},6", f"6,{gold}", rf"{gold}\text{{ or }}6", f"{gold} or 6",
                 rf"\{{{gold},6\}}", f"({gold},6)", f"[{gold},{gold}]", f"{gold};6",
                 f"{gold},{gold}", rf"\{{{gold},{gold}\}}", rf"{gold}\cup 6", rf"\pm {gold}",
                 ",".join([gold, *map(str, range(100, 160))]), rf"x\in\{{{gold},6\}}",
                 rf"{gold} \\ 6", f"{gold} & 6", f"{gold}|6", f"{gold} 6 7",
                 rf"\begin{{pmatrix}}{gold}\\6\end{{pmatrix}}", rf"{gold}\text{{ and }}6",
                 rf"\min({gold},999)"]  # fmt: skip
        yield from ((gold, text, False) for text in wrong[:-1])
    for gold in (r"\{1,2,3\}", "1,2,3"):
        wrong = ["1,2,3,4", "1,2", "1,2,2,3", r"\{1,2,3,1\}", "1,1,1", "(1,2,3,4)", r"\{1,2,3\},4",
                 r"\{1,2,\{3\}\}" + "x", r"\{1,2,3,x\}", "1..3", "1-3", r"\{1,2,3\}\cup\{4\}",
                 r"[1,3]", r"\{1,2,4\}", r"\{\{1,2,3\}\}+1", r"1,2,3,\ldots"]  # fmt: skip
        yield from ((gold, text, False) for text in wrong)
        yield gold, r"\{3,1,2\}", True
        yield gold, r"3, 2 \text{ and } 1", True
    for text in (
        "(1,2,3)",
        "(2,1)",
        r"\{1,2\}",
        "[1,2]",
        "(1,2),(1,2)",
        "(1,2),(3,4)",
        "((1,2),3)",
    ):
        yield "(1,2)", text, False
    yield "(1,2)", r"\left( 1, 2 \right)", True
    for text in ("(0,1)", "[0,1]", "(0,1]\\cup(2,3)", r"\{0,1\}", "0<x<1", r"(0,1]\cup\{5\}"):
        yield "(0,1]", text, False
    yield "(0,1]", r"0<x\le 1", True


def heavy(draw: random.Random) -> Cases:
    texts = [r"\sqrt[10^9]{2}", r"\sqrt[999999999]{2}", "2^{0.0000000001}", "x^{9999}y^{9999}",
             "(x+1)^{9999}", "(x+1)^{2000}(x-1)^{2000}", "(a+b+c+d+e+f)^{99}",
             r"\log_{1.0000001} 2", r"\sin(\sin(\sin(\sin(10^{99}))))", r"\tan(10^{9999})",
             "1/(10^{9999}-10^{9999})", r"\frac{1}{0}", r"\frac{0}{0}", "0^{-1}", r"\ln 0",
             r"\log_1 5", r"\infty-\infty", r"\arcsin 10^{99}",
             r"\overline{" * 30 + "5" + "}" * 30, r"\overline{5}", r"5.\overline{9",
             "0.\\overline{" + "9" * 900 + "}", r"\frac{d^{99}}{dx^{99}} x^{99}",
             r"\frac{d}{dx}\frac{d}{dx}x^x", r"\int_0^1\int_0^1 xy", r"\iiint x", r"\oint x",
             r"\lim_{x\to\infty}(1+1/x)^x", r"\sum_{k=1}^{10^9}\frac1k", r"\prod_{k=1}^{10^8}k",
             r"\det" + r"\begin{pmatrix}" + r"\\".join("&".join("9" * 30) for _ in range(30))
             + r"\end{pmatrix}",
             r"\begin{vmatrix}" + r"\\".join(["x&x&x&x&x&x&x&x"] * 8) + r"\end{vmatrix}",
             r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^{9999}", r"\gcd(10^{9999},3)",
             r"\lfloor 10^{9999}\pi\rfloor", r"\lfloor \pi^{9999}\rfloor", r"10^{9999}\bmod 7",
             "9" * 400, "1" + "0" * 399, "1e999999", "1e9999999999", r"5\times 10^{99999999}",
             "0." + "0" * 900 + "5", "|" * 40, "||x||", "+".join(f"x^{{{n}}}" for n in range(60)),
             "*".join(f"(x+{n})" for n in range(60)), r"\cos" * 50 + " x",
             "2^{1/2^{1/2^{1/2}}}", "i^{i^{i}}", r"(-1)^{0.3333333}", r"\sqrt{-1}^{99}",
             r"\Gamma(\Gamma(\Gamma(9)))", "x_{1_{2_{3}}}", "1:0", "0:0"]  # fmt: skip
    yield from (("5", text, False) for text in texts)
    yield from (("x^2-1", text, False) for text in texts[:12])
    for n in range(40, 45):
        yield str(2**n), rf"\left(\sqrt{{2}}\right)^{{{2 * n}}}", True


def units(draw: random.Random) -> Cases:
    names = ["cm", "m", "km", "kg", "g", "hours", "minutes", "dollars", "cents", "inches", "feet"]
    for one, other in product(names, names):
        yield rf"5\text{{ {one}}}", rf"5\text{{ {other}}}", one == other
    yield r"5\text{ cm}^2", r"5\text{ cm}^3", False
    yield "5m", "5", False
    yield "5", "5m", False
    yield "2516_8", "2516", False
    yield "2516_8", "2516_9", False
    yield "12", "12_3", False
    yield "5", r"5\text{ million}", False


def near(draw: random.Random) -> Cases:
    pairs = [("1.3e-27", "9.9e-20"), ("1.3e-27", "0"), ("e^{-100}", "e^{-101}"), ("e^{-100}", "0"),
             ("(1.3e-27,1)", "(9.9e-20,1)"), ("0", "10^{-50}"), ("2", "2^{1.0000001}"), ("5",
             "5.0000001"), (r"\sqrt{2}", "1.4142"), (r"\sqrt{2}", r"\sqrt{2}+10^{-30}"), (r"\pi",
             r"\frac{22}{7}"), (r"\pi", r"\frac{355}{113}"), ("x", "x+10^{-20}"), (r"2^{1009}",
             r"2^{1009}+1"), (r"e^{\pi\sqrt{163}}", "262537412640768744"), ("x^2",
             "x^2+10^{-9}x")]  # fmt: skip
    yield from ((gold, text, False) for gold, text in pairs)
    for n in range(1, 20):
        yield rf"\sqrt{{{n * n + 1}}}", f"{(n * n + 1) ** 0.5:.3f}", False
        yield rf"\sqrt{{{n * n + 1}}}", f"{(n * n + 1) ** 0.5:.9f}", True
        if 10**4 % (7 * n + 1):
            yield rf"\frac{{{n}}}{{{7 * n + 1}}}", f"{n / (7 * n + 1):.4f}", False


# Those that say how the box is filled; the others give the whole completion.
_FILLED = {
    "towers": towers, "factorials and binomials": factorials, "huge nesting": nesting,
    "boxes of 1 MB": megabytes, "look-alikes": look_alikes, "control characters": controls,
    "format strings": formats, "LaTeX macros": macros, "equations and chains": equations,
    "padded lists and sets": padded, "heavy operators": heavy, "units and bases": units,
    "almost equal": near,
}  # fmt: skip
_WHOLE = {"several boxes": boxes, "hidden in a think block": think}
CLASSES: dict[str, Callable[[random.Random], Cases]] = _FILLED | _WHOLE


def attacks(name: str, seed: int = 0) -> list[Attack]:
    """The class of this name, always in the same order."""
    filled = name in _FILLED
    return [
        Attack(gold, box(text) if filled else text, right)
        for gold, text, right in CLASSES[name](random.Random(seed))
    ]
