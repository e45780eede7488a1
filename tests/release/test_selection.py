from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mnemoscope.audit.rarefaction import rarefy
from mnemoscope.core.errors import DegenerateValues, InputError, OutputConflict, TooFewSamples
from mnemoscope.release.audited import read_audited
from mnemoscope.release.decisions import Decision
from mnemoscope.release.select import ef_bins
from mnemoscope.release.selection import Chosen, SelectConfig, Selection, read_selection, select_clips, write_selection
from tests.release.audits import N_TRAIN, Made, make

IDS = tuple(f"s{n:02d}" for n in range(12))
# Train clip 0 is reached four times, 1 three times, 2 and 3 twice, 4 once; s03 and s09 are flagged, s05 is not gated.
NEAREST = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4]
FLAGGED = ("s03", "s09")
UNGATED = "s05"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(
        tmp_path,
        ids=IDS,
        flagged=FLAGGED,
        nearest_clip_id=[f"real{n:03d}" for n in NEAREST],
        gated=[name != UNGATED for name in IDS],
    )


def chosen(made: Made, *, decisions: dict[str, Decision] | None = None, **options: Any) -> Selection:
    return select_clips(read_audited(made.run), SelectConfig(**options), decisions or {})


def reached(clips: list[str]) -> list[int]:
    return [NEAREST[IDS.index(name)] for name in clips]


def test_recall_small_is_one_unflagged_gated_clip_of_each_learned_train_clip(made: Made) -> None:
    found = chosen(made, rule="recall-small")
    assert sorted(reached(found.clips)) == [0, 1, 2, 3, 4]
    assert not {*FLAGGED, UNGATED} & set(found.clips)
    assert (found.usable, found.dropped, found.learned) == (
        10,
        {"withheld": 0, "flagged": 2},
        {"before": 5, "usable": 5, "after": 5},
    )


def test_recall_large_is_up_to_five_and_a_number_cuts_whole_rounds(made: Made) -> None:
    assert sorted(chosen(made, rule="recall-large").clips) == sorted(set(IDS) - {*FLAGGED, UNGATED})
    assert sorted(reached(chosen(made, rule="recall-large", count=5).clips)) == [0, 1, 2, 3, 4]


def test_coverage_reaches_every_train_clip_first(made: Made) -> None:
    found = chosen(made, rule="coverage", count=5, ef_prior="none")
    assert sorted(reached(found.clips)) == [0, 1, 2, 3, 4]


def test_withheld_leaked_and_released_clips(made: Made) -> None:
    words = {
        "s11": Decision("withhold", "", "2026-01-01", ""),
        "s09": Decision("release", "Ann", "2026-01-01", "seen"),
    }
    found = chosen(made, rule="recall-large", decisions=words)
    assert "s11" not in found.clips
    assert "s09" in found.clips
    assert found.dropped == {"withheld": 1, "flagged": 1}
    # s03 and s09 are flagged and point at 0 and 3.
    assert sorted(set(reached(chosen(made, rule="recall-large", drop_leaked=True).clips))) == [1, 2, 4]
    both = chosen(made, rule="recall-large", drop_leaked=True, decisions=words)
    assert "s09" in both.clips  # a person released it


@pytest.mark.parametrize(("prior", "wanted"), [("train", {2: 3, 5: 3}), ("uniform", {2: 2, 3: 1, 4: 1, 5: 1, 6: 1})])
def test_the_prior_of_ef_is_met_where_clips_allow(made: Made, prior: str, wanted: dict[int, int]) -> None:
    with_ef(made.run / "latents-synthetic" / "clips.parquet", [21, 22, 23, 24, 31, 32, 41, 42, 51, 52, 53, 61])
    train = [25.0, 55.0] * (N_TRAIN // 2)
    with_ef(made.run / "latents-real" / "clips.parquet", [*train, 5.0])  # the last one is of val
    found = chosen(made, rule="coverage", count=6, ef_prior=prior, ef_weight=10.0)
    table = pd.read_parquet(made.run / "latents-synthetic" / "clips.parquet").set_index("clip_id")
    bins, counts = np.unique(ef_bins(table["ef"][found.clips].to_numpy(float)), return_counts=True)
    usable = {2: 3, 5: 2} if prior == "train" else wanted
    for number, least in usable.items():
        assert dict(zip(bins.tolist(), counts.tolist(), strict=True)).get(number, 0) >= min(least, wanted[number])


def with_ef(path: Path, ef: list[float]) -> None:
    pd.read_parquet(path).assign(ef=np.array(ef, float)).to_parquet(path, index=False)


def test_matched_recall_before_and_after_at_one_number(made: Made) -> None:
    found = chosen(made, rule="recall-small")
    before, after = found.matched["before"], found.matched["after"]
    assert before is not None
    assert after is not None
    assert (before.n, after.n) == (5, 5)
    hits = np.bincount([n for name, n in zip(IDS, NEAREST, strict=True) if name != UNGATED], minlength=N_TRAIN)
    assert before.synthetic.value == pytest.approx(rarefy(hits, [5], n_queries=12).expected[0])
    assert after.synthetic.value == 5.0
    assert before.holdout == after.holdout


def test_the_choice_depends_on_the_seed_alone(made: Made) -> None:
    assert chosen(made, rule="recall-small").clips == chosen(made, rule="recall-small").clips
    others = {tuple(chosen(made, rule="recall-small", seed=seed).clips) for seed in range(5)}
    assert len(others) > 1


def test_what_cannot_be_chosen_is_said(made: Made) -> None:
    with pytest.raises(InputError, match="--count"):
        chosen(made, rule="coverage")
    with pytest.raises(TooFewSamples, match=r"expected 6 clips \(--count\), found 5 .* of 10 usable"):
        chosen(made, rule="recall-small", count=6)
    with pytest.raises(DegenerateValues, match="--ef-prior none"):
        chosen(made, rule="coverage", count=3)
    everybody = {name: Decision("withhold", "", "2026-01-01", "") for name in IDS}
    with pytest.raises(TooFewSamples, match="none to choose"):
        chosen(made, rule="recall-small", decisions=everybody)


def test_a_selection_is_read_back(made: Made, tmp_path: Path) -> None:
    found = chosen(made, rule="recall-small")
    write_selection(found, tmp_path / "chosen.csv")
    read = read_selection(tmp_path / "chosen.csv", read_audited(made.run))
    assert (read.clips, read.how) == (found.clips, found.how)
    assert found.how == "rule=recall-small, drop_leaked=False, seed=0, chosen=5"
    (tmp_path / "by-hand.csv").write_text("clip_id\ns00\n")
    assert read_selection(tmp_path / "by-hand.csv", read_audited(made.run)) == Chosen(["s00"], None)


def test_a_selection_by_another_audit_is_refused(made: Made, tmp_path: Path) -> None:
    write_selection(chosen(made, rule="recall-small"), tmp_path / "chosen.csv")
    samples = pd.read_parquet(made.run / "samples.parquet")
    samples.assign(p_max=samples["p_max"] - 0.5).to_parquet(made.run / "samples.parquet")
    with pytest.raises(InputError, match="found a choice by another audit"):
        read_selection(tmp_path / "chosen.csv", read_audited(made.run))


def test_a_selection_takes_the_place_of_another_and_of_nothing_else(made: Made, tmp_path: Path) -> None:
    found, out = chosen(made, rule="recall-small"), tmp_path / "chosen.csv"
    write_selection(found, out)
    write_selection(chosen(made, count=3, ef_prior="none"), out)
    assert len(read_selection(out, read_audited(made.run)).clips) == 3
    decisions = tmp_path / "decisions.csv"
    decisions.write_text("clip_id,decision,who,when,why\n")
    for other in (decisions, made.run / "samples.parquet", tmp_path):
        with pytest.raises(OutputConflict, match="found another file"):
            write_selection(found, other)
    assert decisions.read_text() == "clip_id,decision,who,when,why\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip_id\n", "found none"),
        ("clip\ns00\n", "expected a column clip_id, found clip"),
        ("clip_id\ns00\nnobody\ns00\n", "named twice: 's00'; not of this audit: 'nobody'"),
        ("", "expected a readable CSV"),
        ("clip_id,chosen_by\ns00,rule=a\ns01,rule=b\n", "found several in chosen_by: 'rule=a', 'rule=b'"),
    ],
)
def test_a_wrong_selection_is_refused(made: Made, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "chosen.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_selection(tmp_path / "chosen.csv", read_audited(made.run))
