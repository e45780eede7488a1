import math
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mnemoscope.core.errors import ConfigError
from mnemoscope.data.checks import Expectation, check, needed_for_percentile
from mnemoscope.data.examine import ClipFacts
from mnemoscope.data.layouts import read_layout
from mnemoscope.data.manifest import make_manifest
from mnemoscope.data.video import content_fingerprint, write_video


@pytest.fixture
def cohort(tmp_path, write_clip):
    """Six clips of six patients, all well."""
    for i in range(6):
        write_clip(tmp_path / f"c{i}.mkv", seed=i)
    return tmp_path


def manifest_of(root, **columns):
    files = sorted(p.name for p in root.glob("c*.*"))
    base = {
        "clip_id": [Path(f).stem for f in files],
        "path": files,
        "patient_id": [f"p{i}" for i in range(len(files))],
        "split": (["train"] * 3 + ["val"] + ["holdout"] * 9)[: len(files)],
    }
    return make_manifest(pd.DataFrame(base | columns), root=root)


def found(report):
    return {(p.kind, p.clip_id, p.severity) for p in report.problems}


def test_a_good_set_has_no_problems(cohort):
    report = check(manifest_of(cohort))
    assert report.problems == ()
    assert report.to_table().columns.tolist() == ["severity", "kind", "clip_id", "file", "detail", "remedy"]
    assert report.facts["c2"].fingerprint == content_fingerprint(cohort / "c2.mkv")


def test_every_kind_of_damage_is_named_in_one_list(cohort, make_clip):
    manifest = manifest_of(cohort)
    (cohort / "c0.mkv").unlink()
    (cohort / "c1.mkv").write_bytes(b"garbage")
    data = (cohort / "c2.mkv").read_bytes()
    (cohort / "c2.mkv").write_bytes(data[: len(data) // 2])
    write_video(cohort / "c3.mkv", np.zeros((4, 24, 32), np.uint8), fps=25, codec="ffv1")
    write_video(cohort / "c4.mkv", make_clip(1).repeat(4, axis=0), fps=25, codec="ffv1")
    write_video(cohort / "new.mkv", make_clip(seed=9), fps=25, codec="ffv1")
    report = check(manifest)
    assert found(report) == {
        ("absent", "c0", "error"),
        ("unreadable", "c1", "error"),
        ("truncated", "c2", "error"),
        ("constant", "c3", "error"),
        ("frozen", "c4", "error"),
        ("unlisted", "", "warning"),
    }
    assert all(p.file and p.detail and p.remedy for p in report.problems)
    assert [p.severity for p in report.problems] == ["error"] * 5 + ["warning"]
    assert len(report.errors) == 5


def test_table_breaches_are_in_the_same_list(cohort):
    manifest = manifest_of(
        cohort, patient_id=["p", "q", "r", "s", "t", "p"], ef=[101, *[50] * 5], esv=[9] * 6, edv=[8, *[9] * 5]
    )
    assert {kind for kind, *_ in found(check(manifest))} == {
        "patient_in_two_splits",
        "ef_out_of_range",
        "esv_above_edv",
    }


@pytest.mark.parametrize(
    ("copy_of", "splits", "kind", "severity"),
    [
        ("c0", ["train"] * 6, "duplicate", "warning"),
        ("c0", ["train"] * 5 + ["holdout"], "duplicate_across_splits", "error"),
        ("c0", ["train"] * 5 + ["synthetic"], "copy_of_real", "warning"),
        ("c0", ["synthetic"] * 6, "duplicate", "warning"),
    ],
)
def test_copies_by_content(cohort, write_clip, copy_of, splits, kind, severity):
    (cohort / "c5.mkv").unlink()
    write_clip(cohort / "c5.avi", seed=int(copy_of[1]))
    report = check(manifest_of(cohort, split=splits))
    assert found(report) == {(kind, "c0", severity)}
    assert "c5" in report.problems[0].detail


def test_three_copies_are_one_problem(cohort):
    for name in ("c4", "c5"):
        shutil.copy(cohort / "c0.mkv", cohort / f"{name}.mkv")
    (problem,) = check(manifest_of(cohort, split=["train"] * 6)).problems
    assert all(name in problem.detail for name in ("c0", "c4", "c5"))


def test_black_clips_are_not_called_copies_of_each_other(cohort):
    for name in ("c4", "c5"):
        write_video(cohort / f"{name}.mkv", np.zeros((4, 24, 32), np.uint8), fps=25, codec="ffv1")
    assert found(check(manifest_of(cohort))) == {("constant", "c4", "error"), ("constant", "c5", "error")}


def test_what_the_table_says_is_compared_with_the_file(cohort):
    manifest = manifest_of(cohort, n_frames=[9, *[8] * 5], height=[24] * 5 + [112], width=[32] * 6)
    assert found(check(manifest)) == {("frame_count", "c0", "warning"), ("frame_size", "c5", "warning")}


def test_mixed_sizes_and_rates_are_one_line_each(cohort, write_clip):
    write_clip(cohort / "c5.mkv", seed=5, size=(16, 16))
    report = check(manifest_of(cohort, fps=[25, 25, 25, 25, 50, None]))
    assert {kind for kind, *_ in found(report)} == {"mixed_sizes", "mixed_rates"}
    details = {p.kind: p.detail for p in report.problems}
    assert "24x32 (5 clips), 16x16 (1 clips)" in details["mixed_sizes"]
    assert details["mixed_sizes"].endswith("c5")
    assert details["mixed_rates"].endswith("c4")


@pytest.mark.parametrize(
    ("expect", "wish"),
    [
        (Expectation(percentile=60), "at least 3 clips for a 60th percentile"),
        (Expectation(min_clips={"holdout": 3}), "at least 3 clips"),
        (Expectation(min_patients={"val": 2}), "at least 2 patients"),
        (Expectation(min_clips={"synthetic": 1}), "at least 1 clips"),
    ],
)
def test_too_few_for_what_is_asked(cohort, expect, wish):
    (problem,) = check(manifest_of(cohort), expect=expect).problems
    assert (problem.kind, problem.severity) == ("too_few", "error")
    assert wish in problem.detail


def test_enough_is_enough_and_damaged_clips_do_not_count(cohort):
    expect = Expectation(percentile=50, min_clips={"train": 3}, min_patients={"holdout": 2})
    assert check(manifest_of(cohort), expect=expect).problems == ()
    (cohort / "c5.mkv").write_bytes(b"garbage")
    kinds = [p.kind for p in check(manifest_of(cohort), expect=expect).problems]
    assert kinds == ["too_few", "too_few", "unreadable"]


@pytest.mark.parametrize(("percentile", "needed"), [(95, 20), (99, 100), (99.9, 1000), (50, 2), (97.5, 40), (94, 17)])
def test_clips_needed_for_a_percentile(percentile, needed):
    assert needed_for_percentile(percentile) == needed
    assert needed == math.ceil(round(100 / (100 - percentile), 6))


def test_impossible_expectations_are_refused(cohort):
    with pytest.raises(ConfigError, match="--percentile"):
        Expectation(percentile=100)
    with pytest.raises(ConfigError, match="test"):
        Expectation(min_clips={"test": 3})
    with pytest.raises(ConfigError, match="--workers"):
        check(manifest_of(cohort), workers=3)


def test_one_or_two_workers_find_the_same_and_progress_is_told(cohort):
    (cohort / "c3.mkv").write_bytes(b"garbage")
    told = []
    one = check(manifest_of(cohort), workers=1, progress=lambda done, total: told.append((done, total)))
    assert one == check(manifest_of(cohort), workers=2)
    assert told == [(i + 1, 6) for i in range(6)]


def test_unlisted_files_are_looked_for_where_told(cohort, write_clip, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_clip(other / "x.mkv", seed=8)
    report = check(manifest_of(cohort), folders=[other, other / "absent"])
    assert [p.file for p in report.problems] == [str(other / "x.mkv")]


def test_bad_latents(tmp_path):
    torch.save(torch.full((3, 4, 2, 2), float("nan")), tmp_path / "a.pt")
    torch.save(torch.zeros(3, 4, 2, 2), tmp_path / "b.pt")
    torch.save({"not": "a tensor"}, tmp_path / "c.pt")
    torch.save(torch.arange(48.0).reshape(3, 4, 2, 2), tmp_path / "d.pt")
    manifest = read_layout(tmp_path, split="synthetic")
    assert found(check(manifest)) == {
        ("not_finite", "a", "error"),
        ("constant", "b", "error"),
        ("unreadable", "c", "error"),
    }


def test_an_interrupt_does_not_wait_for_the_queue(cohort, monkeypatch):
    started = []

    def slow(path):
        started.append(path)
        time.sleep(0.02)
        return ClipFacts()

    def interrupt(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr("mnemoscope.data.checks.examine", slow)
    with pytest.raises(KeyboardInterrupt):
        check(manifest_of(cohort), workers=1, progress=interrupt)
    assert len(started) < 6
