import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.core.errors import InputError
from mnemoscope.report import tables

PATIENT = st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0, 2.5, float("nan")]))


def ledger(rows: list[tuple[int, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": [f"P{i}" for i in range(len(rows))],
            "clips": 2,
            "hits": [flagged + 1 for flagged, _ in rows],
            "best_similarity": [similarity for _, similarity in rows],
            "flagged_hits": [flagged for flagged, _ in rows],
            "learned": True,
            "leaked": [flagged > 0 for flagged, _ in rows],
            "missed": False,
            "exposure_p": [0.01 * i for i in range(len(rows))],
        }
    )


@given(st.lists(PATIENT, min_size=1, max_size=12), st.integers(1, 15))
def test_the_most_exposed_come_first(rows: list[tuple[int, float]], most: int) -> None:
    def rank(index: int) -> tuple[bool, float, float, str]:
        flagged, similarity = rows[index]
        absent = bool(np.isnan(similarity))
        return (absent, 0.0 if absent else -similarity, -flagged, f"P{index}")

    expected = [f"P{i}" for i in sorted(range(len(rows)), key=rank)][:most]
    found = tables.most_exposed(ledger(rows), most=most)
    assert [patient.patient_id for patient in found] == expected
    assert [patient.exposure_p for patient in found] == [0.01 * int(name[1:]) for name in expected]
    assert all((patient.state == "leaked") == (patient.flagged_hits > 0) for patient in found)


def test_the_state_is_the_gravest_that_holds() -> None:
    frame = ledger([(0, 1.0)] * 3).assign(leaked=[True, False, False], learned=[True, True, False])
    assert [patient.state for patient in tables.most_exposed(frame, most=3)] == ["leaked", "learned", "missed"]


def test_only_gated_clips_hit() -> None:
    samples = pd.DataFrame({"nearest_clip_id": ["a", "a", "b", "c"], "gated": [True, True, True, False]})
    assert tables.hits_per_clip(samples).to_dict() == {"a": 2, "b": 1}


def test_missing_columns_are_all_named() -> None:
    with pytest.raises(InputError, match=re.escape("missing: gated, p_max; write the table again")):
        tables.require_columns(pd.DataFrame({"clip_id": []}), frozenset({"clip_id", "p_max", "gated"}), name="samples")


def test_a_stage_shows_its_cost_and_a_reused_one_that_of_the_first_time() -> None:
    record = {
        "stages": {
            "latents": {"seconds": 31.24, "peak_memory_mb": 1411, "reused": False},
            "reid": {"seconds": 0.0, "reused": True, "made_in": {"seconds": 90.0, "peak_memory_mb": 500}},
            "old": {"seconds": 0.0, "reused": True},
        }
    }
    assert tables.stages(record) == [
        tables.Stage("latents", "31.2 s", "1,411 MB", reused=False),
        tables.Stage("reid", "1.5 min", "500 MB", reused=True),
        tables.Stage("old", "not recorded", "not recorded", reused=True),
    ]
    assert tables.stages({}) == []
