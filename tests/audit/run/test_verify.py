import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial import distance
from sklearn import metrics

from mnemoscope.audit.run import verify
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.types import SetSize, Verification
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.latents.scaling import Scaling
from mnemoscope.models.reid import Reid, ReidArchitecture, ReidModel
from mnemoscope.search import WeightedL1

# Three patients, the second with two clips; the logit of two frames is 1 - |a - b|.
PATIENTS = ["p", "q", "q", "r"]
FRAMES = {0: [0.0, 0.5, 0.25], 1: [5.0, 5.25], 2: [5.125], 3: [0.375, 9.0]}


@pytest.fixture(scope="module")
def model() -> ReidModel:
    network = Reid(ReidArchitecture(backbone="small", features=1, channels=1, space="image"))
    with torch.no_grad():
        network.fc_end.weight.fill_(-1.0)
        network.fc_end.bias.fill_(1.0)
    return ReidModel(network, scaling=Scaling((0.0,), (1.0,), (0.5,), (0.2,)), encoder="pixels", preset="default")


def features(frames: dict[int, list[float]]) -> FrameFeatures:
    clip = np.repeat(list(frames), [len(values) for values in frames.values()])
    frame = np.concatenate([np.arange(len(values)) for values in frames.values()])
    values = np.array([v for values in frames.values() for v in values], np.float32)[:, None]
    return FrameFeatures(values, clip, frame)


def verified(
    model: ReidModel, frames: dict[int, list[float]], patients: list[str], absent: dict[str, str] | None = None
) -> Verification:
    clips = pd.DataFrame({"patient_id": patients})
    return verify.verification(features(frames), clips, model, seed=0, absent={} if absent is None else absent)


def test_verification_agrees_with_all_pairs_by_loop(model: ReidModel) -> None:
    same, different = [], []
    for clip, values in FRAMES.items():
        for other, others in FRAMES.items():
            for place, value in enumerate(others):
                if (clip, 0) == (other, place):
                    continue
                logit = 1 - abs(values[0] - value)
                (same if PATIENTS[clip] == PATIENTS[other] else different).append(logit)
    found = verified(model, FRAMES, PATIENTS)
    truth = [1] * len(same) + [0] * len(different)
    assert found.auc.value == pytest.approx(metrics.roc_auc_score(truth, same + different))
    assert found.auc.low <= found.auc.value <= found.auc.high


def test_the_last_frame_looks_for_the_first_of_its_patient(model: ReidModel) -> None:
    """p (0.25) finds r (0.375), q (5.25) finds its own other clip (5.125), r (9) finds q: one of three."""
    assert verified(model, FRAMES, PATIENTS).top1.value == pytest.approx(1 / 3)


def test_the_table_of_decisions_takes_one_pair_of_each_kind_a_clip(model: ReidModel) -> None:
    """Own partners differ by 0.4, 0.3, 0.1 and 8.7: three of four are "same" at logit 0; strangers are all far."""
    found = verified(model, {0: [0.0, 0.4], 1: [50.0, 50.3], 2: [50.1], 3: [90.0, 98.7]}, PATIENTS)
    assert found.confusion == ((4, 0), (1, 3))
    assert (found.accuracy, found.recall, found.precision) == (7 / 8, 3 / 4, 1.0)


def test_rates_that_the_pairs_cannot_resolve_are_none(model: ReidModel) -> None:
    absent: dict[str, str] = {}
    found = verified(model, FRAMES, PATIENTS, absent)
    assert set(found.tpr_at_fpr) == {"0.05", "0.01", "0.001"}
    assert found.tpr_at_fpr["0.001"] is None
    assert "a rate of 0.001 needs more pairs" in absent["reid.tpr_at_fpr.0.001"]
    many = {clip: [10.0 * clip, 10.0 * clip + 0.1] for clip in range(12)}
    found = verified(model, many, [f"p{clip}" for clip in many])
    assert found.tpr_at_fpr["0.05"] is not None
    assert found.tpr_at_fpr["0.05"].value == 1.0
    assert found.tpr_at_fpr["0.001"] is None


def test_the_number_of_strangers_is_bounded(model: ReidModel, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    plain = verify.pair_scores

    def counting(a: np.ndarray, b: np.ndarray, head: object) -> np.ndarray:
        counted.append(len(a))
        return plain(a, b, head)

    monkeypatch.setattr(verify, "pair_scores", counting)
    monkeypatch.setattr(verify, "STRANGERS_PER_CLIP", 3)
    verified(model, {clip: [float(clip), clip + 0.1] for clip in range(6)}, list("abcdef"))
    assert set(counted) == {6, 18}


def test_order_of_other_clips_does_not_change_who_is_drawn(model: ReidModel) -> None:
    assert verified(model, FRAMES, PATIENTS) == verified(model, FRAMES, PATIENTS)


@pytest.mark.parametrize(
    ("frames", "patients", "words"),
    [
        ({0: [0.0], 1: [1.0]}, ["p", "p"], "found 2 frames of 2 clips of 1 patients"),
        ({0: [0.0], 1: [1.0], 2: [2.0]}, ["p", "p", "q"], "at least two frames"),
        ({0: [0.0, 1.0], 1: [1.0, 2.0]}, ["p", "p"], "two holdout patients"),
    ],
)
def test_too_few_to_verify_are_refused(
    model: ReidModel, frames: dict[int, list[float]], patients: list[str], words: str
) -> None:
    with pytest.raises(TooFewSamples, match=words):
        verified(model, frames, patients)


def test_the_five_nearest_hold_whom_the_nearest_missed(model: ReidModel) -> None:
    """All four first frames are among the five nearest, so every last frame finds its patient."""
    assert verified(model, FRAMES, PATIENTS).top5.value == 1.0


def test_the_other_clip_of_a_patient_is_sought_without_the_own_clip(model: ReidModel) -> None:
    """The clips of q lie at 5 and 5.125 and find each other; moved to 6, beside r at 6.4, the second finds r."""
    assert verified(model, FRAMES, PATIENTS).top1_other_clip.value == 1.0
    crossed = {0: [0.0, 0.5], 1: [5.0, 5.25], 2: [6.0], 3: [6.4, 9.0]}
    assert verified(model, crossed, PATIENTS).top1_other_clip.value == pytest.approx(0.5)
    absent: dict[str, str] = {}
    assert verified(model, FRAMES, ["p", "q", "r", "s"], absent).top1_other_clip is None
    assert absent["reid.top1_other_clip"].startswith("every holdout patient has one clip")


def test_heads_are_the_auc_of_scipy_and_sklearn_scores() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 5)).astype(np.float32)
    rows = verify.PairRows(
        np.array([(0, 1), (2, 3)]), np.array([(0, 4), (2, 5), (0, 6), (2, 7)]), np.array(list("aabbcdef"))
    )
    trained = WeightedL1(weight=-np.arange(1.0, 6.0), bias=2.0)
    found = verify.head_aucs(rows, values, trained, seed=0, absent={})

    def similarity(name: str, a: np.ndarray, b: np.ndarray) -> float:
        return {
            "pred": 2.0 - float(np.arange(1.0, 6.0) @ np.abs(a - b)),
            "l1": -distance.cityblock(a, b),
            "l2": -distance.euclidean(a, b),
            "corr": 1 - distance.correlation(a, b),
            "cosine": 1 - distance.cosine(a, b),
        }[name]

    truth = [1, 1, 0, 0, 0, 0]
    for name, estimate in found.items():
        scores = [similarity(name, values[i], values[j]) for i, j in np.concatenate([rows.same, rows.different])]
        assert estimate is not None
        assert estimate.value == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert list(found) == ["pred", "l1", "l2", "corr", "cosine"]


def test_a_head_that_is_undefined_is_none_with_its_reason(model: ReidModel) -> None:
    """One feature alone has no correlation."""
    absent: dict[str, str] = {}
    found = verify.verification(features(FRAMES), pd.DataFrame({"patient_id": PATIENTS}), model, seed=0, absent=absent)
    assert found.heads["l1"] is not None
    assert found.heads["corr"] is None
    assert "constant" in absent["reid.heads.corr"]


def test_sets_are_counted_by_clip_and_patient() -> None:
    one, two = pd.DataFrame({"patient_id": ["a", "a", "b"]}), pd.DataFrame({"patient_id": ["c"]})
    assert verify.set_sizes(one, two, one) == {
        "train": SetSize(3, 2),
        "holdout": SetSize(1, 1),
        "synthetic": SetSize(3, 2),
    }
