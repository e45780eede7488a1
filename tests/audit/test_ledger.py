import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from mnemoscope.audit.ledger import Ledger, exposure_p_values, hits_by_patient, patient_ledger
from mnemoscope.audit.recall import count_hits
from mnemoscope.core.errors import Mismatch

# Clips 0 and 2 are of zoe, 1 of adam, 3 of mia, 4 of eve.
PATIENT = np.array(["zoe", "adam", "zoe", "mia", "eve"], dtype=object)
NEAREST = np.array([0, 2, 2, 1, 3])
P_MAX = np.array([1.0, 5.0, 0.5, 1.5, -8.0])
EXPOSURE_P = np.array([1.0, 1.0, 1.0, 0.2])


def ledger(order: list[int] | None = None) -> Ledger:
    nearest, p_max = (values if order is None else values[order] for values in (NEAREST, P_MAX))
    hits = count_hits(nearest, p_max, n_gallery=5, tau=2.0, gate=0.0)
    return patient_ledger(PATIENT, nearest, p_max, hits, exposure_p=EXPOSURE_P)


def test_a_ledger_by_hand() -> None:
    found = ledger()
    assert found.patient_id.tolist() == ["adam", "eve", "mia", "zoe"]
    assert found.clips.tolist() == [1, 1, 1, 2]
    assert found.hits.tolist() == [1, 0, 0, 3]
    assert found.flagged_hits.tolist() == [0, 0, 0, 1]
    assert found.learned.tolist() == [True, False, False, True]
    assert found.leaked.tolist() == [False, False, False, True]
    assert found.missed.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(found.best_similarity, [1.5, np.nan, -8.0, 5.0])
    assert found.exposure_p.tolist() == [1.0, 1.0, 1.0, 0.2]


def test_counts_are_whole_numbers() -> None:
    assert all(getattr(ledger(), name).dtype.kind == "i" for name in ("clips", "hits", "flagged_hits"))


@given(st.permutations(range(5)))
def test_order_of_the_queries_changes_nothing(order: list[int]) -> None:
    for name in ("hits", "flagged_hits", "best_similarity", "missed"):
        np.testing.assert_array_equal(getattr(ledger(order), name), getattr(ledger(), name))


@given(st.permutations(range(5)))
def test_order_of_the_gallery_changes_nothing(order: list[int]) -> None:
    place = np.argsort(order)
    hits = count_hits(place[NEAREST], P_MAX, n_gallery=5, tau=2.0, gate=0.0)
    found = patient_ledger(PATIENT[order], place[NEAREST], P_MAX, hits, exposure_p=EXPOSURE_P)
    for name in ("patient_id", "clips", "hits", "flagged_hits", "best_similarity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(ledger(), name))


def test_hits_of_all_patients_are_the_gated_queries() -> None:
    assert ledger().hits.sum() == (P_MAX >= 0).sum()
    assert ledger().clips.sum() == len(PATIENT)


def test_each_patient_has_an_exposure() -> None:
    hits = count_hits(NEAREST, P_MAX, n_gallery=5, tau=2.0, gate=0.0)
    with pytest.raises(Mismatch, match="each of 4 train patients, got 5"):
        patient_ledger(PATIENT, NEAREST, P_MAX, hits, exposure_p=np.ones(5))


def test_hits_by_patient_by_hand() -> None:
    assert hits_by_patient(PATIENT, NEAREST).tolist() == [1, 0, 1, 3]
    assert hits_by_patient(PATIENT, np.arange(5)).tolist() == ledger().clips.tolist()
    assert hits_by_patient(PATIENT, np.array([], int)).tolist() == [0, 0, 0, 0]


def simulated_exposure(
    flagged: int, *, holdout_hits: int, clip_share: float, n_synthetic: int, n_holdout: int, above: int
) -> float:
    """The two stories told draw by draw; the larger chance."""
    rng, rounds = np.random.default_rng(0), 200_000
    rate = rng.beta(above + 1, n_holdout - above, rounds)
    shares = (clip_share, rng.gamma(holdout_hits + 1, 1 / n_holdout, rounds))
    return max(float((rng.poisson(n_synthetic * rate * share) >= flagged).mean()) for share in shares)


@pytest.mark.parametrize(
    ("flagged", "of_holdout", "clips"), [(1, 0, 1), (2, 0, 1), (3, 5, 1), (6, 5, 30), (9, 0, 120), (14, 10, 1)]
)
def test_exposure_is_the_chance_of_its_story(flagged: int, of_holdout: int, clips: int) -> None:
    numbers = {"n_synthetic": 1000, "n_holdout": 100}
    found = exposure_p_values(
        np.array([flagged, 0]),
        np.array([of_holdout, 100 - of_holdout]),
        np.array([clips, 200 - clips]),
        **numbers,
        innocents_above=5,
    )
    expected = simulated_exposure(flagged, holdout_hits=of_holdout, clip_share=clips / 200, **numbers, above=5)
    assert found[0] == pytest.approx(expected, abs=0.001 + 0.02 * expected)
    assert found[1] == 1.0


def innocent_exposure(
    rng: np.random.Generator, *, dimensions: int, n_synthetic: int, clips_per_patient: np.ndarray
) -> np.ndarray:
    """p-values of train patients where synthetic and holdout are of one distribution; high dimensions have hubs."""
    owner = np.repeat(np.arange(len(clips_per_patient)), clips_per_patient)
    train = rng.normal(size=(len(owner), dimensions))
    to_holdout, to_synthetic = (cdist(rng.normal(size=(n, dimensions)), train) for n in (120, n_synthetic))
    holdout, synthetic = -to_holdout.min(axis=1), -to_synthetic.min(axis=1)
    tau = np.percentile(holdout, 95)
    return exposure_p_values(
        hits_by_patient(owner, to_synthetic.argmin(axis=1)[synthetic > tau]),
        hits_by_patient(owner, to_holdout.argmin(axis=1)),
        clips_per_patient,
        n_synthetic=n_synthetic,
        n_holdout=120,
        innocents_above=int((holdout > tau).sum()),
    )


@pytest.mark.parametrize(("dimensions", "n_synthetic"), [(2, 2000), (16, 5000), (64, 120), (64, 2000)])
def test_innocents_expose_patients_no_more_often_than_said(dimensions: int, n_synthetic: int) -> None:
    rng = np.random.default_rng(1)
    clips = np.repeat([1, 4], [160, 10])
    p = np.concatenate(
        [
            innocent_exposure(rng, dimensions=dimensions, n_synthetic=n_synthetic, clips_per_patient=clips)
            for _ in range(30)
        ]
    )
    for limit in (0.2, 0.05, 0.01, 0.001):
        assert (p <= limit).mean() <= limit


def test_a_copied_patient_is_exposed() -> None:
    """Twenty copies of one patient among 300 innocents, of whom 15 are flagged and point at many."""
    rng = np.random.default_rng(2)
    flagged, holdout = rng.multinomial(15, np.full(100, 0.01)), rng.multinomial(200, np.full(100, 0.01))
    flagged[7] += 20
    found = exposure_p_values(flagged, holdout, np.ones(100, int), n_synthetic=320, n_holdout=200, innocents_above=10)
    assert found.argmin() == 7
    assert found[7] < 1e-6
    assert np.delete(found, 7).min() > 0.001


def test_more_flagged_hits_are_rarer_and_more_innocents_less_so() -> None:
    def exposure(flagged: int, holdout: int, clips: int) -> float:
        return exposure_p_values(
            np.array([flagged, 0]),
            np.array([holdout, 50 - holdout]),
            np.array([clips, 60 - clips]),
            n_synthetic=400,
            n_holdout=50,
            innocents_above=3,
        )[0]

    assert exposure(2, 0, 1) < exposure(1, 0, 1) < exposure(0, 0, 1) == 1.0
    assert exposure(3, 0, 1) < exposure(3, 2, 1)
    assert exposure(3, 0, 1) < exposure(3, 0, 30)
    assert 0 < exposure(400, 0, 1) < 1e-9


def test_every_innocent_has_a_nearest_patient() -> None:
    with pytest.raises(Mismatch, match="each of 9 holdout clips, got 5"):
        exposure_p_values(np.array([1]), np.array([5]), np.array([1]), n_synthetic=10, n_holdout=9, innocents_above=1)
