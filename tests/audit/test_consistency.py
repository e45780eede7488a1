from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from mnemoscope.audit.consistency import (
    Movement,
    SetFrames,
    clip_correlations,
    consistency,
    cross_correlations,
    frozen_and_jumping,
    lag_curve,
    mean_correlation,
    movement,
    separation,
    strangers,
)
from mnemoscope.core.errors import DegenerateValues, Mismatch, TooFewSamples
from mnemoscope.core.types import Consistency

counts = st.lists(st.integers(2, 7), min_size=1, max_size=6)
seeds = st.integers(0, 2**32 - 1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def some_clips(n_frames: list[int], seed: int, *, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    clip = np.repeat(np.arange(len(n_frames)), n_frames)
    return rng(seed).normal(size=(len(clip), width)).astype(np.float32), clip


# --- correlations ---


@settings(max_examples=40)
@given(counts, seeds)
def test_correlations_are_those_of_every_pair_of_frames(n_frames: list[int], seed: int) -> None:
    values, clip = some_clips(n_frames, seed)
    found = clip_correlations(values, clip)
    for number, one in enumerate(found):
        frames = values[clip == number]
        pairs = [stats.pearsonr(a, b)[0] for i, a in enumerate(frames) for j, b in enumerate(frames) if i != j]
        assert one == pytest.approx(np.mean(pairs), abs=1e-6)
        assert one == pytest.approx(mean_correlation(frames))


@settings(max_examples=40)
@given(counts, seeds)
def test_cross_correlations_are_those_of_every_pair_of_either_clip(n_frames: list[int], seed: int) -> None:
    values, clip = some_clips(n_frames, seed)
    partner = rng(seed).integers(len(n_frames), size=len(n_frames))
    for number, one in enumerate(cross_correlations(values, clip, partner)):
        own, other = values[clip == number], values[clip == partner[number]]
        assert one == pytest.approx(np.mean([stats.pearsonr(a, b)[0] for a in own for b in other]), abs=1e-6)


@settings(max_examples=25)
@given(counts, seeds, st.floats(0.01, 100), st.floats(-10, 10))
def test_correlation_knows_neither_scale_nor_order_of_frames(
    n_frames: list[int], seed: int, factor: float, shift: float
) -> None:
    values, clip = some_clips(n_frames, seed)
    order = np.lexsort((rng(seed).random(len(clip)), clip))
    again = clip_correlations(values[order].astype(np.float64) * factor + shift, clip)
    assert again == pytest.approx(clip_correlations(values, clip), abs=1e-9)


def test_noise_scores_zero_where_the_diagonal_would_score() -> None:
    """Eq. 3 with the diagonal gives noise 1/T; a clip of few frames would look more consistent."""
    values, clip = some_clips([4] * 300, 1, width=64)
    assert clip_correlations(values, clip).mean() == pytest.approx(0.0, abs=0.01)
    with_diagonal = [np.corrcoef(values[clip == n]).mean() for n in range(300)]
    assert np.mean(with_diagonal) == pytest.approx(0.25, abs=0.01)


def test_a_constant_network_is_no_consistency() -> None:
    same = np.tile(rng().normal(size=8), (12, 1))
    with pytest.raises(DegenerateValues, match="same features for every frame among 12; train"):
        clip_correlations(same, np.repeat(np.arange(4), 3))
    with pytest.raises(DegenerateValues, match="same features for every frame"):
        mean_correlation(same + rng(1).normal(0, 1e-8, same.shape))
    with pytest.raises(DegenerateValues, match="2 frames whose features are NaN or all one number among 5"):
        clip_correlations(np.vstack([same[:1], rng(1).normal(size=(2, 8)), np.full((2, 8), 3.0)]), np.zeros(5, int))


def test_a_frozen_clip_among_others_is_a_finding() -> None:
    values, clip = some_clips([3, 3], 0)
    values[3:] = values[3]
    assert clip_correlations(values, clip)[1] == pytest.approx(1.0)


@pytest.mark.parametrize("of", [clip_correlations, movement])
def test_clips_of_one_frame_are_refused(of) -> None:
    with pytest.raises(TooFewSamples, match="at least two frames of each clip, got one of 2 of 3"):
        of(*some_clips([1, 2, 1], 0))
    with pytest.raises(TooFewSamples, match="at least one clip"):
        of(*some_clips([], 0))


def test_numbers_of_clips_come_in_order() -> None:
    with pytest.raises(AssertionError, match="non-decreasing"):
        clip_correlations(rng().normal(size=(4, 3)), np.array([0, 0, 2, 2]))


# --- partners ---


@settings(max_examples=60)
@given(st.lists(st.sampled_from("abcd"), min_size=2, max_size=30).filter(lambda names: len(set(names)) > 1), seeds)
def test_strangers_are_clips_of_other_patients(names: list[str], seed: int) -> None:
    patients = np.array(names, dtype=object)
    partner = strangers(patients, rng=rng(seed))
    assert ((partner >= 0) & (partner < len(names))).all()
    assert (patients[partner] != patients).all()


def test_every_stranger_is_equally_likely() -> None:
    patients = np.array(["b", "a", "b", "c", "a"])
    draws = np.array([strangers(patients, rng=rng(seed)) for seed in range(3000)])
    for clip in range(5):
        share = np.bincount(draws[:, clip], minlength=5) / 3000
        other = patients != patients[clip]
        assert share == pytest.approx(other / other.sum(), abs=0.04)


def test_one_patient_has_no_stranger() -> None:
    with pytest.raises(TooFewSamples, match=r"at least two patients .* got 3 clips of 1; add holdout patients"):
        strangers(np.array(["a", "a", "a"]), rng=rng())


# --- curves ---


def test_curve_by_hand() -> None:
    """Of 0 … 20 the quantiles 5, 50, 95 % are 1, 10, 19."""
    column = np.arange(21.0)
    logits = np.stack([rng(0).permutation(column), 2 * rng(1).permutation(column)], axis=1)
    found = lag_curve(logits)
    assert (found.low, found.median, found.high) == ([1.0, 2.0], [10.0, 20.0], [19.0, 38.0])


def test_short_clips_count_as_far_as_they_reach() -> None:
    logits = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, np.nan]])
    found = lag_curve(logits)
    assert (found.median, found.low[1], found.high[1]) == ([2.0, 5.0], 5.0, 5.0)


def test_a_lag_beyond_every_clip_is_refused() -> None:
    with pytest.raises(TooFewSamples, match=r"none of 2 is long enough for lag number 2; .*lag_share="):
        lag_curve(np.array([[1.0, np.nan, np.nan], [2.0, np.nan, np.nan]]))
    with pytest.raises(TooFewSamples, match="none of 0"):
        lag_curve(np.zeros((0, 1)))


@pytest.mark.parametrize("broken", [[np.nan, 1.0], [np.inf, 1.0], [1.0, -np.inf]])
def test_logits_of_a_broken_network_are_refused(broken: list[float]) -> None:
    with pytest.raises(DegenerateValues, match="expected finite logits"):
        lag_curve(np.array([[0.0, 0.0], broken]))


def test_separation_is_the_auc_over_all_lags() -> None:
    same, different = rng(0).normal(1, 1, (30, 4)), rng(1).normal(0, 1, (30, 4))
    same[3, 2:], different[5, 1:] = np.nan, np.nan
    kept = [block[~np.isnan(block)] for block in (same, different)]
    truth = np.repeat([1, 0], [len(block) for block in kept])
    found = separation(same, different, np.arange(30) // 2, rng=rng(2), rounds=100)
    assert found.value == pytest.approx(metrics.roc_auc_score(truth, np.concatenate(kept)))
    assert found.low < found.value < found.high


def test_lags_of_a_patient_are_resampled_together() -> None:
    """Copying every lag ten times makes the interval no narrower."""
    same, different = rng(0).normal(1, 1, (25, 1)), rng(1).normal(0, 1, (25, 1))
    once = separation(same, different, np.arange(25), rng=rng(2), rounds=200)
    tenfold = separation(
        np.repeat(same, 10, axis=1), np.repeat(different, 10, axis=1), np.arange(25), rng=rng(2), rounds=200
    )
    assert (once.value, once.low, once.high) == pytest.approx((tenfold.value, tenfold.low, tenfold.high))


# --- movement ---


def test_movement_by_hand() -> None:
    """Frames at 0, 3, 3 on a line: squares 4 + 1 + 1 over two; the step from clip to clip does not count."""
    values = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 0.0], [100.0, 0.0], [100.0, 4.0]])
    found = movement(values, np.array([0, 0, 0, 1, 1]))
    assert found.spread == pytest.approx([np.sqrt(3.0), np.sqrt(8.0)])
    assert found.largest_step == pytest.approx([3.0, 4.0])


@settings(max_examples=25)
@given(counts, seeds)
def test_movement_is_that_of_every_clip_alone(n_frames: list[int], seed: int) -> None:
    values, clip = some_clips(n_frames, seed)
    found = movement(values, clip)
    for number in range(len(n_frames)):
        frames = values[clip == number].astype(np.float64)
        assert found.spread[number] == pytest.approx(np.sqrt(np.var(frames, axis=0, ddof=1).sum()))
        steps = [np.sqrt(((b - a) ** 2).sum()) for a, b in pairwise(frames)]
        assert found.largest_step[number] == pytest.approx(max(steps))


def test_limits_are_those_of_the_real_clips() -> None:
    """Of 0 … 20 those are 1 and 19; a clip at the limit is neither frozen nor jumping."""
    twenty_one = np.arange(21.0)
    real = Movement(rng(0).permutation(twenty_one), rng(1).permutation(twenty_one))
    synthetic = Movement(np.array([0.0, 0.99, 1.0, 50.0]), np.array([19.01, 19.0, 0.0, 5.0]))
    frozen, jumping = frozen_and_jumping(real=real, synthetic=synthetic)
    assert (frozen.value, jumping.value) == (0.5, 0.25)
    assert frozen_and_jumping(real=real, synthetic=real)[0].value == 1 / 21


def test_few_real_clips_give_no_limit() -> None:
    with pytest.raises(TooFewSamples, match="at least 20 of them, got 19; add holdout clips"):
        frozen_and_jumping(real=Movement(np.ones(19), np.ones(19)), synthetic=Movement(np.ones(3), np.ones(3)))


# --- the whole ---

N, T, D = 60, 8, 16


def beating(n: int, seed: int, *, patient_spread: float = 3.0) -> np.ndarray:
    """Features that go round once in T frames about a place of the patient, (n, T, D)."""
    draw = rng(seed)
    phase = np.linspace(0, 2 * np.pi, T, endpoint=False) + draw.uniform(0, 6, (n, 1))
    axes = draw.normal(size=(2, n, 1, D))
    place = patient_spread * draw.normal(size=(n, 1, D))
    circle = axes[0] * np.cos(phase)[..., None] + axes[1] * np.sin(phase)[..., None]
    return place + circle + 0.05 * draw.normal(size=(n, T, D))


def a_set(frames: np.ndarray) -> SetFrames:
    n, t, d = frames.shape
    logits = -np.linalg.norm(frames[:, 1:] - frames[:, :1], axis=2)
    return SetFrames(logits, frames.reshape(n * t, d), np.repeat(np.arange(n), t))


def whole(synthetic: np.ndarray, **changed) -> Consistency:
    frames = beating(N, 0)
    patients = np.arange(N) // 2
    partner = strangers(patients, rng=rng(1))
    given_ = {
        "real": a_set(frames),
        "synthetic": a_set(synthetic),
        "different_logits": -np.linalg.norm(frames[partner][:, 1:] - frames[:, :1], axis=2),
        "partner": partner,
        "real_patients": patients,
        "lag_share": [lag / T for lag in range(1, T)],
    }
    return consistency(**(given_ | changed), rng=rng(2), rounds=100)


def test_steady_clips_are_like_real_ones() -> None:
    found = whole(beating(201, 5))
    assert found.clips == {"real": N, "synthetic": 201, "different": N}
    assert found.lag_share == [lag / 8 for lag in range(1, 8)]
    assert found.frozen.value < 0.15
    assert found.jumping.value < 0.15
    assert found.mcc["synthetic"].low <= found.mcc["real"].high
    assert found.mcc["real"].low > found.mcc["different"].high
    assert abs(found.mcc["different"].value) < 0.1
    assert found.separation_auc.low > 0.95
    assert np.allclose(found.synthetic.median, found.real.median, atol=1.0)
    assert max(found.different.median) < min(found.real.low)
    assert found == whole(beating(201, 5))


def test_frozen_clips_are_found() -> None:
    steady = beating(50, 5)
    still = np.repeat(steady[:, :1], T, axis=1)
    noisy = still + 0.05 * rng(6).normal(size=still.shape)
    for frames in (still, noisy):
        found = whole(frames)
        assert (found.frozen.value, found.jumping.value) == (1.0, 0.0)


def test_cut_and_shuffled_clips_are_found() -> None:
    steady = beating(50, 5)
    cut = np.concatenate([steady[:, : T // 2], np.roll(steady, 1, axis=0)[:, T // 2 :]], axis=1)
    found = whole(cut)
    assert (found.frozen.value, found.jumping.value) == (0.0, 1.0)
    assert found.mcc["synthetic"].high < found.mcc["real"].low
    shuffled = np.stack([frames[rng(n).permutation(T)] for n, frames in enumerate(steady)])
    assert whole(shuffled).jumping.value > 0.25


def test_mean_correlations_weigh_each_clip_the_same_and_each_patient_whole() -> None:
    frames = beating(N, 0)
    found = whole(frames)
    assert found.mcc["real"].value == pytest.approx(np.mean([mean_correlation(one) for one in frames]))
    assert found.mcc["synthetic"].value == found.mcc["real"].value
    assert found.mcc["real"] != found.mcc["synthetic"]


def test_what_does_not_go_together_is_refused() -> None:
    frames = beating(N, 0)
    with pytest.raises(Mismatch, match=r"at the 2 lags .* got \[7, 7, 7\]"):
        whole(frames, lag_share=[0.1, 0.2])
    with pytest.raises(Mismatch, match=r"expected lags in \(0, 1\]"):
        whole(frames, lag_share=[lag / T for lag in range(7)])
    with pytest.raises(Mismatch, match=r"got \[60, 60, 60, 59\]"):
        whole(frames, partner=np.zeros(N - 1, int))
    with pytest.raises(Mismatch, match="but 60 of 60 real clips have one of their own"):
        whole(frames, partner=np.arange(N))
    with pytest.raises(Mismatch, match="logits of 59 and features of 60"):
        SetFrames(np.zeros((N - 1, 3)), *some_clips([2] * N, 0))


# --- the phantom ---


@pytest.mark.slow
def test_phantom_clips_through_the_bundled_vae() -> None:
    """Frozen, noisy, cut and shuffled clips are told from steady ones by a random projection of latents."""
    from mnemoscope.models.vae import load_vae
    from mnemoscope.phantom.cohort import CohortSpec, clips, render

    vae = load_vae("bundled")
    spec = CohortSpec(n_patients=44, n_frames=12, seed=31)
    videos = np.stack([render(spec, clip).frames for clip in clips(spec)])
    projection = rng(0).normal(size=(4 * 14 * 14, 64)) / 28

    def moves(frames: np.ndarray) -> Movement:
        latents = vae.encode(frames.reshape(-1, 112, 112), clip_id="")
        return movement(
            latents.reshape(len(latents), -1) @ projection, np.repeat(np.arange(len(frames)), frames.shape[1])
        )

    steady = videos[32:]
    noise = rng(1).normal(0, 6, steady.shape)
    cut = np.concatenate([steady[:, :6], np.roll(steady, 1, axis=0)[:, 6:]], axis=1)
    shuffled = np.stack([frames[rng(n).permutation(12)] for n, frames in enumerate(steady)])
    odd = {
        "steady": steady,
        "still": np.repeat(steady[:, :1], 12, axis=1),
        "noisy": np.clip(np.repeat(steady[:, :1], 12, axis=1) + noise, 0, 255).astype(np.uint8),
        "cut": cut,
        "shuffled": shuffled,
    }
    real = moves(videos[:32])
    found = {name: frozen_and_jumping(real=real, synthetic=moves(frames)) for name, frames in odd.items()}
    rates = {name: (frozen.value, jumping.value) for name, (frozen, jumping) in found.items()}
    assert max(rates["steady"]) <= 0.25
    assert rates["still"] == rates["noisy"] == (1.0, 0.0)
    assert rates["cut"] == (0.0, 1.0)
    assert rates["shuffled"][1] > 0.9
