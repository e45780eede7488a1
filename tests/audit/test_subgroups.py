import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.subgroups import FEWEST_CLIPS, MOST_STRATA, strata, subgroup_table
from mnemoscope.core.errors import Mismatch
from mnemoscope.core.types import Estimate


def sizes(values: np.ndarray, attribute: str = "") -> dict[str, int]:
    names, stratum = strata(values, attribute=attribute)
    assert len(set(names)) == len(names)
    return {name: int((stratum == number).sum()) for number, name in enumerate(names)}


def texts(**counts: int) -> np.ndarray:
    return np.array([name for name, count in counts.items() for _ in range(count)], dtype=object)


def test_ef_has_clinical_strata_and_a_cut_belongs_above() -> None:
    ef = np.repeat([29.9, 30.0, 39.9, 40.0, 50.0, 60.0, 80.0], 5)
    assert sizes(ef, "ef") == {"< 30": 5, "30–40": 10, "40–50": 5, "50–60": 5, "≥ 60": 10}
    assert sizes(ef, "EF") == sizes(ef, "ef")


def test_strata_of_too_few_join_the_one_below_and_the_lowest_the_one_above() -> None:
    ef = np.repeat([20.0, 35.0, 45.0, 55.0, 65.0], [3, 9, 2, 9, 4])
    assert sizes(ef, "ef") == {"< 50": 14, "≥ 50": 13}


def test_many_numbers_are_cut_at_rounded_quartiles() -> None:
    age = np.arange(80) + 0.26
    # The quartiles are 20.01, 39.76 and 59.51; the names show 20, 39.8 and 59.5, and these cut.
    assert sizes(age) == {"< 20": 20, "20–39.8": 20, "39.8–59.5": 20, "≥ 59.5": 20}


def test_close_quartiles_keep_as_many_digits_as_tell_them_apart() -> None:
    assert list(sizes(1000 + np.arange(40) / 100)) == ["< 1000.1", "1000.1–1000.2", "1000.2–1000.3", "≥ 1000.3"]


def test_few_numbers_are_values_in_their_order() -> None:
    assert sizes(np.repeat([10, 2, 9], 6)) == {"2": 6, "9": 6, "10": 6}
    assert sizes(np.repeat([1.0, 0.5], 6)) == {"0.5": 6, "1": 6}


def test_texts_are_strata_rare_ones_are_other_and_missing_is_not_given() -> None:
    values = np.concatenate([texts(M=7, F=9, x=3, y=2), np.array([None, float("nan"), "", None, None], dtype=object)])
    assert sizes(values) == {"F": 9, "M": 7, "other": 5, "not given": 5}


def test_rare_values_that_are_too_few_together_take_the_rarest_stratum_with_them() -> None:
    assert sizes(texts(M=7, F=9, x=3)) == {"F": 9, "other": 10}


def test_missing_values_that_are_too_few_join_the_last_stratum() -> None:
    assert sizes(np.array(["F"] * 6 + ["M"] * 6 + [None] * 4, dtype=object)) == {"F": 6, "M or not given": 10}
    ef = np.array([20.0] * 5 + [70.0] * 5 + [np.nan] * 2)
    assert sizes(ef, "ef") == {"< 60": 5, "≥ 60 or not given": 7}


def test_the_most_frequent_values_keep_their_strata() -> None:
    values = texts(**{f"site{number:02}": 30 - number for number in range(20)})
    found = sizes(values)
    assert list(found) == [f"site{number:02}" for number in range(MOST_STRATA - 1)] + ["other"]


def test_twelve_values_are_all_strata() -> None:
    assert len(sizes(np.repeat(list("abcdefghijkl"), 5))) == 12


def test_booleans_are_values() -> None:
    assert sizes(np.repeat([True, False], 5)) == {"False": 5, "True": 5}


def test_attributes_without_values() -> None:
    assert sizes(np.array([])) == {}
    assert sizes(np.full(6, np.nan)) == {"not given": 6}
    assert sizes(np.arange(3.0), "ef") == {"all": 3}
    assert sizes(np.array([None, "a"], dtype=object)) == {"other or not given": 2}


value = st.one_of(st.none(), st.floats(0, 100), st.sampled_from([0.0, 1.0, 50.0]))


@given(st.lists(value, max_size=80), st.sampled_from(["ef", "age"]), st.randoms())
def test_every_clip_has_a_stratum_of_enough_clips_whatever_the_order(values: list, attribute: str, random) -> None:
    found = sizes(np.array(values, dtype=object), attribute)
    assert sum(found.values()) == len(values)
    assert len(found) < 2 or min(found.values()) >= FEWEST_CLIPS
    assert sizes(np.array(random.sample(values, len(values)), dtype=object), attribute) == found


@given(st.lists(st.sampled_from([*"abcdefghijklmnop", None]), max_size=120), st.randoms())
def test_every_text_has_a_stratum_of_enough_clips_whatever_the_order(values: list, random) -> None:
    found = sizes(np.array(values, dtype=object))
    assert sum(found.values()) == len(values)
    assert len(found) <= MOST_STRATA + 1
    assert len(found) < 2 or min(found.values()) >= FEWEST_CLIPS
    assert sizes(np.array(random.sample(values, len(values)), dtype=object)) == found


def test_a_table_by_hand() -> None:
    sex = np.array(["F"] * 10 + ["M"] * 5, dtype=object)
    learned, leaked = np.arange(15) < 4, np.arange(15) == 14
    women, men = subgroup_table({"sex": sex}, learned, leaked, patients=np.arange(15))
    assert [(row.attribute, row.stratum, row.clips) for row in (women, men)] == [("sex", "F", 10), ("sex", "M", 5)]
    assert (women.learned, women.leaked) == (wilson(4, 10), wilson(0, 10))
    assert (men.learned, men.leaked) == (wilson(0, 5), wilson(1, 5))


def test_a_share_is_of_clips_and_its_interval_of_patients() -> None:
    """Three patients of ten clips; 4 of the 10 are learned, which is 1.2 of three patients."""
    patients = np.array(["a"] * 4 + ["b"] * 3 + ["c"] * 3 + list("defghi"), dtype=object)
    learned = np.arange(16) < 4
    row, _ = subgroup_table({"sex": texts(F=10, M=6)}, learned, learned, patients=patients)
    assert row.learned == Estimate(0.4, wilson(1, 3).low, wilson(2, 3).high)


def test_attributes_keep_their_order_and_one_stratum_is_no_table() -> None:
    attributes = {"view": texts(A4C=12), "sex": texts(F=6, M=6), "ef": np.repeat([20.0, 65.0], 6)}
    rows = subgroup_table(attributes, np.ones(12, bool), np.zeros(12, bool), patients=np.arange(12))
    assert [(row.attribute, row.stratum) for row in rows] == [
        ("sex", "F"),
        ("sex", "M"),
        ("ef", "< 60"),
        ("ef", "≥ 60"),
    ]


def test_lengths_must_agree() -> None:
    with pytest.raises(Mismatch, match="sex: expected one value for each of 3 train clips, found 2"):
        subgroup_table({"sex": np.array(["F", "M"])}, np.ones(3, bool), np.ones(3, bool), patients=np.arange(3))
    with pytest.raises(Mismatch, match="leaked: expected"):
        subgroup_table({}, np.ones(3, bool), np.ones(2, bool), patients=np.arange(3))
