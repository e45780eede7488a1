import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.run import compare
from mnemoscope.audit.run.stages import SetFeatures
from mnemoscope.core.errors import DegenerateValues, TooFewSamples
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.search import WeightedL1

HEAD = WeightedL1(weight=-np.array([1.0, 2.0, 0.5]), bias=4.0)


def frames(rng: np.random.Generator, clips: int, per_clip: int = 2) -> FrameFeatures:
    values = rng.normal(size=(clips * per_clip, 3)).astype(np.float32)
    return FrameFeatures(values, np.repeat(np.arange(clips), per_clip), np.tile(np.arange(per_clip), clips))


def logits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return HEAD.bias + np.abs(a[:, None].astype(float) - b[None].astype(float)) @ HEAD.weight


@given(seed=st.integers(0, 50), clips=st.integers(4, 16))
def test_train_neighbours_are_those_of_all_pairs(seed: int, clips: int) -> None:
    rng = np.random.default_rng(seed)
    train = frames(rng, clips)
    patient = np.array([f"p{i // 2}" for i in range(clips)])
    found = compare.train_neighbours(train, patient, HEAD)
    pairs, owner = logits(train.values, train.values), patient[train.clip]
    for clip in range(clips):
        own = train.clip == clip
        strangers = pairs[own][:, owner != patient[clip]]
        assert found.stranger[clip] == pytest.approx(strangers.max(), abs=1e-5)
        crowd = np.sort(strangers, axis=1)[:, ::-1][:, : compare.CROWD].mean(axis=1)
        assert found.crowding[clip] == pytest.approx(crowd.mean(), abs=1e-5)
    several = [clip for clip in range(clips) if (patient == patient[clip]).sum() > 1]
    for clip, identified in zip(several, found.identified, strict=True):
        others = np.where(train.clip[None] != clip, pairs[train.clip == clip], -np.inf)
        best = np.unravel_index(np.argmax(others), others.shape)[1]
        assert identified == (owner[best] == patient[clip])


def test_hub_corrected_neighbours_maximise_twice_the_similarity_minus_the_crowding() -> None:
    rng = np.random.default_rng(3)
    train, synthetic, holdout = frames(rng, 12), frames(rng, 9), frames(rng, 6)
    patient = np.arange(12)
    features = SetFeatures(train=train, holdout=holdout, synthetic=synthetic, verification=holdout)
    found = compare.compare(features, patient, HEAD)
    for query, plain in ((synthetic, found.synthetic), (holdout, found.holdout)):
        pairs = logits(query.values, train.values)
        for clip in range(len(plain.p_max)):
            own = query.clip == clip
            assert plain.p_max[clip] == pytest.approx(pairs[own].max(), abs=1e-5)
            assert plain.nearest[clip] == train.clip[np.argmax(pairs[own].max(axis=0))]
    charged = 2 * logits(synthetic.values, train.values) - found.train.crowding[train.clip][None]
    for clip in range(9):
        best = np.argmax(charged[synthetic.clip == clip].max(axis=0))
        assert found.synthetic_uncrowded.nearest[clip] == train.clip[best]
    pairs = logits(synthetic.values, holdout.values)
    best = [pairs[synthetic.clip == clip].max() for clip in range(9)]
    np.testing.assert_allclose(found.synthetic_holdout.p_max, best, atol=1e-5)


def test_one_patient_and_a_patient_who_fills_the_gallery_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    train = frames(np.random.default_rng(0), 4)
    with pytest.raises(TooFewSamples, match="at least two patients"):
        compare.train_neighbours(train, np.array(["a"] * 4), HEAD)
    monkeypatch.setattr(compare, "MOST_OWN_FRAMES", 3)
    with pytest.raises(DegenerateValues, match="--train-frames"):
        compare.train_neighbours(train, np.array(list("aabb")), HEAD)
