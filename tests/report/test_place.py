import numpy as np
import pytest

from mnemoscope.core.errors import TooFewSamples
from mnemoscope.report.place import embed_map


def clusters(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centre = rng.normal(0, 5, (count, 16))
    label = np.repeat(np.arange(count), size)
    return (centre[label] + rng.normal(0, 0.3, (count * size, 16))).astype(np.float32), label


def nearest_label(places: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The label of each point's nearest other point, by brute force."""
    far = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(far, np.inf)
    return label[far.argmin(axis=1)]


def test_what_is_alike_lies_together() -> None:
    features, label = clusters(6, 25)
    places = embed_map(features)
    assert places.shape == (150, 2)
    assert (nearest_label(places, label) == label).mean() > 0.98


def test_of_many_clips_the_rest_lies_among_its_landmarks_and_a_copy_on_its_original() -> None:
    features, label = clusters(6, 50)
    both = np.concatenate([features, features])
    places = embed_map(both, most_landmarks=200)
    assert (nearest_label(places[:300], label) == label).mean() > 0.95
    apart = np.linalg.norm(places[:300] - places[300:], axis=1)
    # Where one of the two is a landmark, its copy lies on it.
    assert np.median(apart) < 1e-3 * np.ptp(places)


def test_the_same_seed_gives_the_same_map() -> None:
    features, _ = clusters(4, 20)
    np.testing.assert_allclose(
        embed_map(features, seed=1, most_landmarks=50), embed_map(features, seed=1, most_landmarks=50)
    )


def test_four_clips_make_a_map_and_three_do_not() -> None:
    assert np.isfinite(embed_map(np.eye(4, dtype=np.float32))).all()
    with pytest.raises(TooFewSamples, match="at least 4 clips, found 3"):
        embed_map(np.eye(3, dtype=np.float32))


def test_copies_alone_are_laid_out_too() -> None:
    assert np.isfinite(embed_map(np.ones((12, 3), dtype=np.float32))).all()
