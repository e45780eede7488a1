"""Oracle of the re-identification losses: every pair in float64 NumPy, one at a time."""

import math

import numpy as np


def logit(a: np.ndarray, b: np.ndarray, weight: np.ndarray, bias: float) -> float:
    return bias + sum(float(w) * abs(float(x) - float(y)) for w, x, y in zip(weight, a, b, strict=True))


def log_one_plus_exp(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def pair_loss(
    anchor: np.ndarray, partner: np.ndarray, patients: list[tuple[int, int]], weight: np.ndarray, bias: float
) -> float:
    """Mean of −log p(same) over pairs of one patient and −log(1 − p(same)) over the others."""
    terms = []
    for a, b, (p, q) in zip(anchor, partner, patients, strict=True):
        z = logit(a, b, weight, bias)
        terms.append(log_one_plus_exp(-z if p == q else z))
    return float(np.mean(terms))


def batch_loss(
    anchor: np.ndarray, partner: np.ndarray, patients: list[tuple[int, int]], weight: np.ndarray, bias: float
) -> float:
    """Both kinds of pairs of the whole batch, each weighing one half, plus picking the own partner among strangers."""
    alike, apart, rows = [], [], []
    for i, (p, _) in enumerate(patients):
        own = logit(anchor[i], partner[i], weight, bias)
        candidates = [own]
        for j, (_, q) in enumerate(patients):
            z = logit(anchor[i], partner[j], weight, bias)
            (alike if p == q else apart).append(log_one_plus_exp(-z if p == q else z))
            candidates += [z] if p != q else []
        rows.append(math.log(sum(math.exp(z) for z in candidates)) - own)
    return float(0.5 * (np.mean(alike) + (np.mean(apart) if apart else 0.0)) + np.mean(rows))
