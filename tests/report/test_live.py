import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mnemoscope.audit.intervals import wilson
from mnemoscope.audit.privacy import privacy
from mnemoscope.report.live import data_block, map_points, percentiles
from mnemoscope.report.material import Material
from tests.report import full
from tests.report.browser.pages import material


@pytest.fixture(scope="module")
def made() -> Material:
    return material()


def test_each_percentile_has_the_audits_own_numbers(made: Material) -> None:
    found = percentiles(made)
    assert found is not None
    steps = {row["percentile"]: row for row in found["steps"]}
    assert found["steps"][found["own"]]["percentile"] == 95.0
    assert {80.0, 90.5, 99.0, 99.1, 99.9} <= set(steps)
    synthetic, holdout = (part["p_max"].to_numpy() for part in (made.samples, made.holdout))
    assert made.ladder is not None
    for percentile in (80.0, 95.0, 99.9):
        known, row = privacy(synthetic, holdout, percentile=percentile), steps[percentile]
        assert (row["tau"], row["flagged"]) == (known.tau, known.flagged)
        assert row["excess"] == pytest.approx(list(vars(known.excess_rate).values()), abs=1e-5)
        assert row["p"] == pytest.approx(known.p_value, rel=1e-2)
        gain = made.ladder.loc[made.ladder["rung"] == "gain", "p_max"].to_numpy()
        expected = wilson(sum(score > known.tau for score in gain.tolist()), len(gain))
        assert row["power"][found["rungs"].index("gain")] == pytest.approx(list(vars(expected).values()), abs=1e-5)


def test_a_percentile_that_the_holdout_cannot_resolve_is_not_offered(made: Material) -> None:
    found = percentiles(replace(made, holdout=made.holdout.head(100)))
    assert found is not None
    assert max(row["percentile"] for row in found["steps"]) == 99.0


def test_without_a_privacy_test_there_is_nothing_to_move(made: Material) -> None:
    assert percentiles(replace(made, result=replace(full.result(), privacy=None))) is None
    assert percentiles(replace(made, samples=made.samples.head(0))) is None


def test_a_redacted_page_does_not_count_one_to_four(made: Material) -> None:
    low = made.samples.assign(p_max=np.append(np.full(len(made.samples) - 3, -9.0), [9.0, 9.0, 9.0]))
    few = percentiles(replace(made, samples=low, redacted=True))
    assert few is not None
    assert [few["steps"][0][name] for name in ("flagged", "rate", "excess", "p")] == [None] * 4
    whole = percentiles(replace(made, samples=low))
    assert whole is not None
    assert whole["steps"][0]["flagged"] == 3


def test_a_redacted_page_tells_no_step_by_which_a_single_clip_could_be_placed(made: Material) -> None:
    """Whoever subtracts what the steps say finds no clip of his own between two of them."""
    found = percentiles(replace(made, redacted=True))
    whole = percentiles(made)
    assert found is not None
    assert whole is not None
    assert found["steps"][found["own"]]["percentile"] == whole["steps"][whole["own"]]["percentile"]
    assert 2 < len(found["steps"]) < len(whole["steps"])
    n_holdout = len(made.holdout)
    above = [round((row["rate"][0] - row["excess"][0]) * n_holdout) for row in found["steps"]]
    for counts in (above, [row["flagged"] for row in found["steps"]]):
        assert min(counts) >= 5
        assert all(a == b or a - b >= 5 for a, b in pairwise(counts))
    own = found["steps"].pop(found["own"])
    assert own["tau"] == round(whole["steps"][whole["own"]]["tau"], 3)  # as it stands in figure and table
    assert all(row["tau"] == round(row["tau"], 2) for row in found["steps"])


def test_the_data_block_ends_no_element_and_reads_back() -> None:
    values = {"ids": ["</script><script>alert(1)</script>", "<!--", "\u2028&amp;"]}
    text = data_block(values)
    assert "<" not in text
    assert json.loads(text) == values


def test_the_map_names_every_point_and_groups_attributes(made: Material) -> None:
    found = map_points(made)
    assert found is not None
    assert found["sets"] == [full.TRAIN, full.HOLDOUT, full.SYNTHETIC]
    assert len(found["ids"]) == sum(found["sets"])
    assert list(found["attributes"]) == ["ef"]  # all are of one sex, which parts nobody
    assert found["attributes"]["ef"]["groups"] == ["< 30", "30–40", "40–50", "50–60", "≥ 60"]
    assert map_points(replace(made, places=None)) is None
