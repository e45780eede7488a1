import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.ledger import Ledger, patient_ledger
from mnemoscope.audit.recall import count_hits

# Clips 0 and 2 are of zoe, 1 of adam, 3 of mia, 4 of eve.
PATIENT = np.array(["zoe", "adam", "zoe", "mia", "eve"], dtype=object)
NEAREST = np.array([0, 2, 2, 1, 3])
P_MAX = np.array([1.0, 5.0, 0.5, 1.5, -8.0])


def ledger(order: list[int] | None = None) -> Ledger:
    nearest, p_max = (values if order is None else values[order] for values in (NEAREST, P_MAX))
    return patient_ledger(PATIENT, nearest, p_max, count_hits(nearest, p_max, n_gallery=5, tau=2.0, gate=0.0))


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
    found = patient_ledger(PATIENT[order], place[NEAREST], P_MAX, hits)
    for name in ("patient_id", "clips", "hits", "flagged_hits", "best_similarity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(ledger(), name))


def test_hits_of_all_patients_are_the_gated_queries() -> None:
    assert ledger().hits.sum() == (P_MAX >= 0).sum()
    assert ledger().clips.sum() == len(PATIENT)
