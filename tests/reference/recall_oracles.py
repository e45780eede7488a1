"""Oracles of the recall figures: definitions written out over single queries and single pairs, nothing clever."""

from itertools import combinations, product
from math import dist

import numpy as np


def distinct_of_every_choice(targets: list[int | None], n: int) -> float:
    """Mean number of distinct clips over all choices of n queries; None marks a query that reaches nothing."""
    choices = list(combinations(targets, n))
    return sum(len(set(choice) - {None}) for choice in choices) / len(choices)


def variance_of_rarefied(probabilities: list[float], n_queries: int, n: int) -> float:
    """Variance of the rarefied number over all outcomes of ``n_queries`` queries; what is left of 1 reaches nothing."""
    cells: list[int | None] = [*range(len(probabilities)), None]
    chances = [*probabilities, 1 - sum(probabilities)]
    mean = square = 0.0
    for outcome in product(range(len(cells)), repeat=n_queries):
        chance = float(np.prod([chances[cell] for cell in outcome]))
        value = distinct_of_every_choice([cells[cell] for cell in outcome], n)
        mean, square = mean + chance * value, square + chance * value**2
    return square - mean**2


def occupancy_moments(n_cells: int, n_draws: int) -> tuple[float, float]:
    """Mean and standard deviation of the number of distinct cells over all sequences of draws."""
    counts = [len(set(draws)) for draws in product(range(n_cells), repeat=n_draws)]
    return float(np.mean(counts)), float(np.std(counts))


def prdc(real: list[list[float]], synthetic: list[list[float]], k: int) -> dict[str, float]:
    """Precision, recall, density and coverage by loops over pairs."""

    def radius(point: int, points: list[list[float]]) -> float:
        return sorted(dist(points[point], other) for i, other in enumerate(points) if i != point)[k - 1]

    in_real = [[dist(r, s) < radius(i, real) for i, r in enumerate(real)] for s in synthetic]
    in_synthetic = [[dist(r, s) < radius(j, synthetic) for j, s in enumerate(synthetic)] for r in real]
    return {
        "precision": float(np.mean([any(row) for row in in_real])),
        "recall": float(np.mean([any(row) for row in in_synthetic])),
        "density": float(np.mean([sum(row) / k for row in in_real])),
        "coverage": float(np.mean([any(row[i] for row in in_real) for i in range(len(real))])),
    }
