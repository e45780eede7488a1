from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnemoscope.core.errors import ConfigError, InputError, MnemoscopeError
from mnemoscope.sampling.ejection import requested_ef
from mnemoscope.sampling.folder import sample_names
from tests.sampling.tiny_models import record_of

RECORD = record_of("lvdm")
MANY = sample_names(2000)


@pytest.mark.parametrize(
    ("rule", "low", "high"), [("uniform", 10, 90), ("uniform:20:30", 20, 30), ("uniform:0:100", 0, 100)]
)
def test_uniform_fills_its_bounds(rule: str, low: float, high: float) -> None:
    ef = requested_ef(rule, MANY, RECORD, seed=1)
    counts = np.histogram(ef, bins=10, range=(low, high))[0]
    assert counts.sum() == len(MANY)  # none outside
    assert np.abs(counts - 200).max() < 4 * (200 * 0.9) ** 0.5


def test_bounds_that_meet_give_one_value() -> None:
    np.testing.assert_array_equal(requested_ef("uniform:55:55", ["a", "b"], RECORD, seed=0), [55, 55])


@pytest.mark.parametrize("rule", ["uniform", "prior"])
def test_a_drawn_ef_depends_on_seed_and_id_alone(rule: str) -> None:
    first = dict(zip(MANY, requested_ef(rule, MANY, RECORD, seed=3), strict=True))
    some = ["SYN000007", "SYN000002", "new"]
    found = requested_ef(rule, some, RECORD, seed=3)
    assert found[:2].tolist() == [first[name] for name in some[:2]]
    assert found[2] not in first.values()
    assert (requested_ef(rule, MANY, RECORD, seed=4) != list(first.values())).all()


def test_the_prior_has_the_quantiles_of_the_train_clips() -> None:
    wanted = np.array([12, 30, 48, 52, 55, 58, 60, 63, 66, 70, 85.0])
    ef = requested_ef("prior", MANY, replace(RECORD, ef_quantiles=tuple(wanted)), seed=0)
    share_below = [(ef <= quantile).mean() for quantile in wanted]
    np.testing.assert_allclose(share_below, np.linspace(0, 1, len(wanted)), atol=4 * 0.5 / len(MANY) ** 0.5)
    assert wanted[0] <= ef.min() < ef.max() <= wanted[-1]


def test_a_model_without_a_distribution_has_no_prior() -> None:
    with pytest.raises(ConfigError, match=r"--ef prior.*no EF distribution; choose uniform or a file"):
        requested_ef("prior", ["a"], replace(RECORD, ef_quantiles=()), seed=0)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["EF", "ef", "Ef"])
def test_a_list_is_taken_row_by_row(tmp_path: Path, suffix: str, column: str) -> None:
    table, path = pd.DataFrame({"name": ["x", "y", "z"], column: [0, 100, 33.5]}), tmp_path / f"wanted.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    np.testing.assert_array_equal(requested_ef(str(path), ["b", "a"], RECORD, seed=0), [0, 100])
    np.testing.assert_array_equal(requested_ef(str(path), ["a", "b", "c"], RECORD, seed=9), [0, 100, 33.5])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("uniform:10", "uniform:LOW:HIGH"),
        ("uniform:10:20:30", "uniform:LOW:HIGH"),
        ("uniform:", "uniform:LOW:HIGH"),
        ("uniform:a:b", "uniform:LOW:HIGH"),
        ("uniform:-1:50", "0 ≤ LOW ≤ HIGH ≤ 100 percent, got -1 and 50"),
        ("uniform:50:101", "0 ≤ LOW ≤ HIGH ≤ 100 percent, got 50 and 101"),
        ("uniform:60:50", "0 ≤ LOW ≤ HIGH ≤ 100 percent, got 60 and 50"),
        ("uniform:nan:50", "0 ≤ LOW ≤ HIGH ≤ 100 percent"),
        ("nowhere.csv", "uniform, uniform:LOW:HIGH, prior or a file with a column EF"),
        ("uniforn", "uniform, uniform:LOW:HIGH, prior or a file with a column EF"),
    ],
)
def test_other_rules_are_refused(rule: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"--ef {rule}.*{message}"):
        requested_ef(rule, ["a"], RECORD, seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,value\na,1\n", "expected a column named EF in its first line, found name, value"),
        ("EF\n50\n", "expected 3 rows, one for each sample, found 1; lower --count"),
        ("EF\n50\n60\n-1\n", "0 to 100 percent, found -1 in row 3; correct the list"),
        ("EF\n50\n101\n102\n", "found 101 in row 2 and 1 more like it; correct the list"),
        ("EF,name\n50,a\n,b\n60,c\n", "found nothing in row 2; correct"),
        ("EF\n50\nfifty\n60\n", "found fifty in row 2; correct"),
        ("", "expected a readable CSV table"),
    ],
)
def test_lists_that_do_not_say_the_ef_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "wanted.csv").write_text(content)
    with pytest.raises(InputError, match=rf"wanted\.csv.*{message}"):
        requested_ef(str(tmp_path / "wanted.csv"), ["a", "b", "c"], RECORD, seed=0)


def test_rows_beyond_the_samples_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "wanted.csv").write_text("EF\n50\n900\n")
    assert requested_ef(str(tmp_path / "wanted.csv"), ["a"], RECORD, seed=0).tolist() == [50]
    with pytest.raises(MnemoscopeError, match="900"):
        requested_ef(str(tmp_path / "wanted.csv"), ["a", "b"], RECORD, seed=0)
