import numpy as np
import pandas as pd

from mnemoscope.audit.ledger import patient_ledger
from mnemoscope.audit.matching import Matches
from mnemoscope.audit.recall import count_hits
from mnemoscope.audit.run.tables import patient_table, query_table

TRAIN = pd.DataFrame({"clip_id": ["a", "b", "c"], "patient_id": ["p1", "p1", "p2"]})
QUERIES = pd.DataFrame({"clip_id": ["x", "y", "z"], "patient_id": ["q1", "q2", "q3"]})
MATCHES = Matches(
    p_max=np.array([9.0, 3.0, -1.0]),
    nearest=np.array([2, 0, 1]),
    query_frame=np.array([0, 4, 8]),
    gallery_frame=np.array([2, 6, 10]),
)
HOLDOUT = np.array([1.0, 2.0, 3.0, 4.0])


def table(*, exchangeable: bool = False, gate: float | None = 0.0) -> pd.DataFrame:
    return query_table(QUERIES, TRAIN, MATCHES, p_max_holdout=HOLDOUT, tau=3.0, gate=gate, exchangeable=exchangeable)


def test_a_query_table_by_hand() -> None:
    found = table()
    assert found["learned_for"].isna().tolist() == [False, False, True]
    assert found.fillna({"learned_for": "nobody"}).to_dict(orient="list") == {
        "clip_id": ["x", "y", "z"],
        "patient_id": ["q1", "q2", "q3"],
        "p_max": [9.0, 3.0, -1.0],
        "nearest_clip_id": ["c", "a", "b"],
        "nearest_patient_id": ["p2", "p1", "p1"],
        "query_frame": [0, 4, 8],
        "gallery_frame": [2, 6, 10],
        "conformal_p": [0.2, 0.6, 1.0],
        "flagged": [True, False, False],
        "gated": [True, True, False],
        "learned_for": ["c", "a", "nobody"],
    }


def test_without_a_gate_every_query_has_learned_for_somebody() -> None:
    assert table(gate=None)["learned_for"].tolist() == ["c", "a", "b"]


def test_an_innocent_is_compared_with_the_other_innocents() -> None:
    """Each of the four among the other three: ranks 4, 3, 2, 1 of four."""
    train = pd.DataFrame({"clip_id": ["a"], "patient_id": ["p"]})
    zeros = np.zeros(4, dtype=int)
    queries = pd.DataFrame({"clip_id": list("wxyz"), "patient_id": list("wxyz")})
    found = query_table(
        queries,
        train,
        Matches(HOLDOUT, zeros, zeros, zeros),
        p_max_holdout=HOLDOUT,
        tau=3.0,
        gate=None,
        exchangeable=True,
    )
    assert found["conformal_p"].tolist() == [1.0, 0.75, 0.5, 0.25]


def test_no_clip_is_lost_by_parquet(tmp_path) -> None:
    table().to_parquet(tmp_path / "samples.parquet", index=False)
    back = pd.read_parquet(tmp_path / "samples.parquet")
    assert back["learned_for"].isna().tolist() == [False, False, True]
    pd.testing.assert_frame_equal(back, table(), check_dtype=False)


def test_a_patient_table_by_hand() -> None:
    hits = count_hits(MATCHES.nearest, MATCHES.p_max, n_gallery=3, tau=3.0, gate=0.0)
    found = patient_table(
        patient_ledger(
            TRAIN["patient_id"].to_numpy(), MATCHES.nearest, MATCHES.p_max, hits, exposure_p=np.array([1.0, 0.25])
        )
    )
    assert found.to_dict(orient="list") == {
        "patient_id": ["p1", "p2"],
        "clips": [2, 1],
        "hits": [1, 1],
        "best_similarity": [3.0, 9.0],
        "flagged_hits": [0, 1],
        "learned": [True, True],
        "leaked": [False, True],
        "missed": [False, False],
        "exposure_p": [1.0, 0.25],
    }
