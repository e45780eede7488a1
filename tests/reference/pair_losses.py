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
    """Both kinds of pairs of the whole batch, each weighing one half, plus picking the own partner among strangers and

    the own anchor among strangers, likewise.
    """
    size = len(patients)
    z = [[logit(anchor[i], partner[j], weight, bias) for j in range(size)] for i in range(size)]
    same = [[patients[i][0] == patients[j][1] for j in range(size)] for i in range(size)]
    places = [(i, j) for i in range(size) for j in range(size)]
    alike = [log_one_plus_exp(-z[i][j]) for i, j in places if same[i][j]]
    apart = [log_one_plus_exp(z[i][j]) for i, j in places if not same[i][j]]
    sought = []
    for k in range(size):
        for others in (
            [z[k][j] for j in range(size) if not same[k][j]],
            [z[i][k] for i in range(size) if not same[i][k]],
        ):
            sought.append(math.log(sum(math.exp(value) for value in [z[k][k], *others])) - z[k][k])
    return float(0.5 * (np.mean(alike) + (np.mean(apart) if apart else 0.0)) + np.mean(sought))
