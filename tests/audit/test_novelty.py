import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from mnemoscope.audit.novelty import novelty, novelty_limit, of_clips, real_frames
from mnemoscope.core.errors import DegenerateValues, TooFewSamples

PLANE = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 3)))[0].T


def in_plane(rng: np.random.Generator, n: int, *, noise: float = 0.1) -> np.ndarray:
    """Frames that vary in three directions around a mean, and a little in all."""
    return 5 + rng.normal(0, 3, (n, 3)) @ PLANE + noise * rng.normal(size=(n, 20))


@given(seed=st.integers(0, 99), components=st.integers(1, 8))
def test_novelty_is_what_principal_components_leave_over(seed: int, components: int) -> None:
    rng = np.random.default_rng(seed)
    train, frames = in_plane(rng, 80, noise=1.0), in_plane(rng, 7, noise=2.0)
    peer = PCA(components, svd_solver="full").fit(train)
    left = frames - peer.inverse_transform(peer.transform(frames))
    found = novelty(frames, real_frames(train, components=components))
    np.testing.assert_allclose(found, (left**2).mean(axis=1), rtol=1e-8)


def test_real_frames_stay_inside_and_noise_lies_far_outside() -> None:
    rng = np.random.default_rng(1)
    real = real_frames(in_plane(rng, 400), components=3)
    limit = novelty_limit(novelty(in_plane(rng, 200), real))
    assert (novelty(in_plane(rng, 2000), real) <= limit).mean() > 0.999
    assert (novelty(rng.normal(5, 3, (200, 20)), real) > limit).all()
    assert (novelty(np.full((1, 20), 0.0), real) > limit).all()


def test_there_are_no_more_components_than_the_frames_can_carry() -> None:
    rng = np.random.default_rng(2)
    assert real_frames(in_plane(rng, 39)).basis.shape == (4, 20)
    assert real_frames(in_plane(rng, 8)).basis.shape == (1, 20)
    assert real_frames(in_plane(rng, 1000)).basis.shape == (19, 20)
    with pytest.raises(TooFewSamples, match="at least 8 train frames, got 7"):
        real_frames(in_plane(rng, 7))


def test_the_limit_is_tukeys_outer_fence_of_the_logarithms() -> None:
    values = np.exp(np.random.default_rng(3).normal(size=501))
    lower, upper = np.percentile(np.log(values), [25, 75])
    assert novelty_limit(values) == pytest.approx(np.exp(upper + 3 * (upper - lower)), rel=1e-3)
    assert novelty_limit(10 * values) == pytest.approx(10 * novelty_limit(values))
    assert novelty_limit(np.random.default_rng(4).permutation(values)) == novelty_limit(values)
    with pytest.raises(DegenerateValues, match="copies of train clips"):
        novelty_limit(np.array([0.0, 0.0, 1.0]))


def test_a_clip_is_the_mean_of_its_frames() -> None:
    found = of_clips(np.array([1.0, 3.0, 5.0, 2.0]), np.array([0, 0, 1, 2]))
    assert found.tolist() == [2.0, 5.0, 2.0]
