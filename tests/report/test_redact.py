import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.intervals import wilson
from mnemoscope.core.types import CopyingTest, Estimate, Evidence, SetSize, Subgroup, TopHit, Verdict
from mnemoscope.report.figures import shares_pct
from mnemoscope.report.material import Material
from mnemoscope.report.page import write_report
from mnemoscope.report.redact import redacted
from tests.report import full
from tests.report.browser.pages import material
from tests.report.test_page import Reader, run_record


def real_ids(made: Material) -> set[str]:
    """Every id of a real clip or patient, from the tables themselves."""
    assert made.attributes is not None
    real = made.attributes[made.attributes["set"] != "synthetic"]
    ids = {*real["clip_id"], *made.holdout["clip_id"], *made.patients["patient_id"], *made.samples["nearest_clip_id"]}
    return ids | {"clip-a", "patient-a", "clip-b", "patient-b"}


@pytest.fixture(scope="module")
def made() -> Material:
    result = full.result()
    named = Verdict("fail", ["The clip t0042 of patient-07 lies in /data/hospital/t0042.avi"], ["holdout clip h00003"])
    record = run_record() | {"identity": {"real": "/data/hospital"}, "config": {"vae": "/data/vae", "note": "t0042"}}
    hit = TopHit("t0042", "patient-07", 879)
    assert result.recall is not None
    result = replace(result, verdict=named, recall=replace(result.recall, top_hits=[hit]))
    return material(result=result, record=record)


@pytest.fixture(scope="module")
def html(made: Material, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(redacted(made), out=tmp_path_factory.mktemp("redacted")).read_text(encoding="utf-8")


def test_the_whole_page_names_patients_and_the_redacted_one_none(made: Material, html: str, tmp_path: Path) -> None:
    ids = real_ids(made)
    assert len(ids) > 8000
    whole = write_report(made, out=tmp_path).read_text(encoding="utf-8")
    words = set(re.findall(r"[\w-]+", whole))
    assert len(ids & words) > 8000
    assert ids & set(re.findall(r"[\w-]+", html)) == set()
    assert [name for name in ids if len(name) > 4 and name in html] == []
    assert "/data/" not in html


def test_no_picture_is_in_it(made: Material, html: str) -> None:
    pictures = (
        [pair.picture for pair in made.pairs] + [one.picture for one in made.missed] + [*made.thumbnails.values()]
    )
    assert len(pictures) > 12
    assert not [picture for picture in pictures if picture in html]
    assert "data:image" not in html
    assert not [tag for tag, _ in Reader(html).tags if tag == "img"]


def test_no_single_clip_is_drawn_with_its_ejection_fraction(made: Material, html: str, tmp_path: Path) -> None:
    assert "EF measured by EF asked for" in write_report(made, out=tmp_path).read_text(encoding="utf-8")
    assert "EF measured by EF asked for" not in html


def test_the_answer_and_the_numbers_stay(html: str) -> None:
    text = Reader(html).text
    for said in (
        "This synthetic set should not leave",
        "732 of 10,000",
        "Redacted.",
        "AUC",
        "0.82 times what strangers",
    ):
        assert said in text
    assert "Protected data." not in text


def test_counts_under_five_are_not_said(made: Material, tmp_path: Path) -> None:
    result = made.result
    assert result.privacy is not None
    assert result.recall is not None
    privacy = replace(result.privacy, flagged=3, flag_rate=Estimate(0.0003, 0.0001, 0.0009), p_value=0.777)
    groups = [replace(result.recall.subgroups[0], clips=40, learned=Estimate(0.05, 0.01, 0.17))]
    recall = replace(result.recall, subgroups=groups, learned_and_flagged=2)
    reasons = ["3 synthetic clips (0.0%) are flagged, no more than real clips of other patients would be"]
    privacy = replace(privacy, copying=CopyingTest(-1.283, 0.0224, 4))
    few = replace(result, privacy=privacy, recall=recall, verdict=Verdict("pass", reasons, ["nothing"]))
    page = write_report(redacted(replace(made, result=few)), out=tmp_path).read_text(encoding="utf-8")
    text = Reader(page).text
    assert "Clips above it under 5 Of 10,000" in text
    assert "Learned and flagged under 5" in text
    assert "Under 5 clips are flagged" in text
    assert "under 5 of 10,000" in text
    assert "region by region (4 regions)" in text  # of the space that is compared: nobody is counted
    for given_away in ("0.03 %", "0.777", "5.0 % 1.0 to 17.0 %"):
        assert given_away not in text
    assert re.search(r"ef < 30 40 not said", text)


def small(made: Material) -> Material:
    """31 clips: 1 hardly moves, 29 count, 30 are flagged; of 29 learned, two groups of five have 3 and 4."""
    found = made.result
    assert found.privacy is not None
    assert found.recall is not None
    assert found.consistency is not None
    groups = [
        Subgroup(*("age", name, clips), learned=wilson(learned, clips), leaked=wilson(0, clips))
        for name, clips, learned in (("a", 60, 5), ("b", 61, 7), ("c", 62, 10), ("d", 63, 3), ("e", 64, 4))
    ]
    groups += [
        Subgroup(*("sex", name, clips), learned=wilson(learned, clips), leaked=wilson(8, clips))
        for name, clips, learned in (("F", 150, 14), ("M", 160, 15))
    ]
    privacy = replace(found.privacy, flagged=30, flag_rate=wilson(30, 31), p_value=0.0011, fdr_flagged=27)
    evidence = Evidence(candidates=31, threshold=0.5, confirmed=3, doubted=27)
    recall = replace(found.recall, learned=29, gated=29, unlike_real=0, subgroups=groups, learned_and_flagged=7)
    consistency = replace(found.consistency, frozen=wilson(1, 31), clips={"synthetic": 31}, jumping=wilson(11, 31))
    few = replace(
        found,
        sets=found.sets | {"synthetic": SetSize(31, 31)},
        privacy=replace(privacy, evidence=evidence),
        recall=recall,
        consistency=consistency,
        verdict=Verdict("fail", ["30 synthetic clips (96.8%) are too close; +91.1% [+80%, +95%] beyond"], ["nothing"]),
    )
    return replace(made, result=few, samples=made.samples.tail(31))


def test_what_gives_a_count_under_five_away_is_not_said(made: Material, tmp_path: Path) -> None:
    few = small(made)
    whole = Reader(write_report(few, out=tmp_path / "whole").read_text(encoding="utf-8")).text
    text = Reader(write_report(redacted(few), out=tmp_path / "redacted").read_text(encoding="utf-8")).text
    unsaid, rest = "not said (under 5 clips)", "all but under 5"
    for said, instead in (
        ("; 3.2 % hardly move", "than 95 % of real ones."),
        ("Frozen 3.2 % 0.57 to 16.2 %", f"Frozen {unsaid} Synthetic"),
        ("Clips that count 29", f"Clips that count {rest}"),
        ("30 of 31", f"{rest} of 31"),
        ("30 synthetic clips (96.8%) are too close", "All but under 5 clips are too close."),
        ("Named one by one 27", f"Named one by one {rest}"),
        ("Flags doubted 27", f"Flags doubted {rest}"),
        ("p-value of the excess 0.001", f"p-value of the excess {unsaid}"),
        ("age a 60 8.3 %", f"age a 60 {unsaid}"),
        ("age c 62 16.1 %", f"age c 62 {unsaid}"),
    ):
        assert said in whole
        assert said not in text
        assert instead in text
    assert f"too close to a real patient {rest} of 31 {unsaid} Closer than" in text  # and no interval of nothing
    for broken in ("not available", "interval not", "to not", "strangers, not"):
        assert broken not in text
    # What no count under five follows from stays.
    for said in ("Jumping 35.5 %", "sex F 150 9.3 %", "age a 60 not said (under 5 clips) 0.00 %", "Learned 29"):
        assert said in text


def test_a_lone_clip_makes_no_bar_and_is_not_lost() -> None:
    values = np.array([*np.linspace(0.05, 0.95, 20), 1.5, 2.5, 2.6, 2.7, 2.8, 2.9, 5.5, 5.6, 5.7, 7.5, 8.5, 8.6])
    shown = shares_pct(values, np.arange(10.0), fewest=5) * len(values) / 100
    # 20 | 1 + 5 | nothing | 3 + 0 + 1 + 2 of which no part has five
    assert shown == pytest.approx([20, 3, 3, 0, 0, 1.5, 1.5, 1.5, 1.5])
    assert not shares_pct(values[-4:], np.arange(10.0), fewest=5).any()


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 7))
def test_every_bar_is_of_as_many_clips_as_are_asked(counts: list[int], fewest: int) -> None:
    values = np.repeat(np.arange(len(counts)) + 0.5, counts)
    shown = shares_pct(values, np.arange(len(counts) + 1.0), fewest=fewest) * len(values) / 100
    if len(values) < fewest:
        assert not shown.any()
        return
    assert shown.sum() == pytest.approx(len(values))
    bars = np.split(np.arange(len(counts)), np.flatnonzero(np.diff(shown)) + 1)
    for bar in bars:
        assert shown[bar].sum() == pytest.approx(sum(counts[i] for i in bar))
        assert shown[bar].sum() == 0 or shown[bar].sum() > fewest - 0.5
