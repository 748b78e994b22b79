"""The page's colours: told apart with any colour vision, and readable on its paper."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import gdro.report

# Severity 1 of Machado, Oliveira and Fernandes (2009), on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                            [0.004733, 0.691367, 0.303900]]),
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def palettes():
    """Linear RGB by name, of the light theme and of the dark ones."""
    css = (Path(gdro.report.__file__).parent / "page.css").read_text(encoding="utf-8")
    blocks = [dict(re.findall(r"--(c\d|muted|paper): (#\w+)", block)) for block in css.split("}")]
    return [{name: linear(c) for name, c in block.items()} for block in blocks if "c0" in block]


def linear(color):
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB at D65."""
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / (0.9505, 1, 1.089)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("colors", palettes())
def test_any_two_colours_differ_and_each_is_readable(colors):
    paper = colors.pop("paper")
    assert len(colors) == 8
    for name, seen in VISION.items():
        for a, b in combinations(colors, 2):
            distance = np.linalg.norm(lab(seen @ colors[a]) - lab(seen @ colors[b]))
            assert distance > 10, (name, a, b, distance)  # 2.3 is just noticeable, side by side
    for name, color in colors.items():
        low, high = sorted(float(TO_XYZ[1] @ rgb) for rgb in (color, paper))
        assert (high + 0.05) / (low + 0.05) > 3, name  # WCAG 2, graphical objects
