"""Oracle of structural similarity: Wang et al. 2004 written out, one window at a time."""

import math

import numpy as np


def ssim(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """Mean over all 11 × 11 windows that lie wholly inside; gray levels 0–255."""
    weight = [[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)]
    total = sum(map(sum, weight))
    values = []
    for row in range(5, a.shape[0] - 5):
        for column in range(5, a.shape[1] - 5):
            window = slice(row - 5, row + 6), slice(column - 5, column + 6)
            if inside[window].all():
                values.append(_window(a[window], b[window], np.array(weight) / total))
    return sum(values) / len(values)


def _window(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = float((weight * x).sum()), float((weight * y).sum())
    var_x = float((weight * (x - mean_x) ** 2).sum())
    var_y = float((weight * (y - mean_y) ** 2).sum())
    covariance = float((weight * (x - mean_x) * (y - mean_y)).sum())
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (var_x + var_y + c2)
