from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mnemoscope.audit.run import together
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.core.config import build
from mnemoscope.core.errors import InputError, TooFewSamples
from mnemoscope.data.writing import write_video
from mnemoscope.latents.features import FrameFeatures
from mnemoscope.models.ef_readers import EF_READERS
from mnemoscope.search import WeightedL1
from tests.toys import ToyClip, write_store

HEAD = WeightedL1(weight=-np.array([1.0, 2.0, 0.5, 1.0]), bias=3.0)


def clips(counts: list[int], name: str = "c") -> pd.DataFrame:
    return pd.DataFrame({"clip_id": [f"{name}{i:03d}" for i in range(len(counts))], "n_frames": counts})


def test_clips_are_watched_over_as_many_frames_as_most_have() -> None:
    real, synthetic = clips([10, 12, 9, 3, 11]), clips([70] * 4, "s")
    found = together.watched(real, synthetic, seed=0)
    assert found.frames == 10
    assert found.real["clip_id"].tolist() == ["c000", "c001", "c004"]
    assert len(found.synthetic) == 4
    many = together.watched(clips([70] * 500), clips([99] * 500, "s"), seed=0)
    assert (many.frames, len(many.real), len(many.synthetic)) == (64, 200, 200)
    backwards = together.watched(clips([70] * 500).iloc[::-1], clips([99] * 500, "s"), seed=0)
    assert backwards.clip_ids() == many.clip_ids()


def test_single_frames_are_not_watched() -> None:
    with pytest.raises(TooFewSamples, match="at least two frames"):
        together.watched(clips([1, 1, 5]), clips([9], "s"), seed=0)


def test_successive_frames_are_those_of_the_store(tmp_path: Path) -> None:
    frames = {f"c{i}": np.random.default_rng(i).normal(size=(5 + i, 2, 3, 3)).astype(np.float16) for i in range(3)}
    store = write_store(tmp_path / "store", {name: ToyClip(clip, name) for name, clip in frames.items()})
    found = together.successive(store, store.clips.iloc[[0, 2]], 4, lambda x: x.reshape(len(x), -1).astype(np.float32))
    expected = np.concatenate([frames["c0"][:4], frames["c2"][:4]]).reshape(8, -1)
    np.testing.assert_array_equal(found.values, expected)
    assert found.clip.tolist() == [0] * 4 + [1] * 4


def test_curves_are_quantiles_of_frame_0_against_later_ones() -> None:
    rng = np.random.default_rng(0)
    n, frames = 24, 5

    def features(spread: float) -> FrameFeatures:
        place = rng.normal(size=(n, 1, 4)) + spread * rng.normal(size=(n, frames, 4))
        return FrameFeatures(
            place.reshape(-1, 4).astype(np.float32), np.repeat(np.arange(n), frames), np.tile(np.arange(frames), n)
        )

    real, synthetic = features(0.1), features(0.3)
    patients = np.arange(n)
    found = together.hold_together(real, synthetic, patients, HEAD, seed=0)
    for part, curve in ((real, found.real), (synthetic, found.synthetic)):
        values = part.values.reshape(n, frames, 4).astype(np.float64)
        logits = 3.0 + np.abs(values[:, :1] - values[:, 1:]) @ HEAD.weight
        np.testing.assert_allclose(curve.median, np.median(logits, axis=0), atol=1e-5)
        np.testing.assert_allclose(curve.low, np.percentile(logits, 5, axis=0), atol=1e-5)
    assert found.lag_share == [0.25, 0.5, 0.75, 1.0]
    assert found.separation_auc.value > 0.95
    assert max(found.different.median) < min(found.real.median)
    assert found.jumping.value > 0.5


REQUESTED = np.linspace(20, 70, 40)


def labelled(measured: dict[str, float], folder: Path, **changes: Any) -> Any:
    table = folder / "measured.csv"
    pd.DataFrame({"clip_id": list(measured), "ef": list(measured.values())}).to_csv(table, index=False)
    asked = pd.DataFrame({"clip_id": [f"s{i:02d}" for i in range(40)], "ef": REQUESTED})
    return together.labelled(asked, None, build(AuditConfig, {"measured_ef": table} | changes))


def test_a_table_of_measured_values_is_held_against_the_labels(tmp_path: Path) -> None:
    found = labelled({f"s{i:02d}": value + 2 for i, value in enumerate(REQUESTED)}, tmp_path)
    assert (found.reader, found.requested_vs_measured.n) == ("measured.csv", 40)
    assert found.requested_vs_measured.mae.value == pytest.approx(2.0)
    assert found.p_value < 0.01
    shuffled = np.random.default_rng(0).permutation(REQUESTED)
    wrong = labelled({f"s{i:02d}": value for i, value in enumerate(shuffled)}, tmp_path)
    assert wrong.requested_vs_measured.r2.value < 0
    assert wrong.p_value > 0.05


def test_clips_nobody_measured_are_left_out(tmp_path: Path) -> None:
    found = labelled({f"s{i:02d}": REQUESTED[i] for i in range(15)} | {"other": 50.0}, tmp_path)
    assert found.requested_vs_measured.n == 15


def test_no_reader_no_labels_and_no_videos_say_so(tmp_path: Path) -> None:
    asked = pd.DataFrame({"clip_id": ["a"], "ef": [50.0]})
    with pytest.raises(TooFewSamples, match=r"--ef-reader.*--measured-ef"):
        together.labelled(asked, None, AuditConfig())
    with pytest.raises(TooFewSamples, match="no requested ejection fraction"):
        together.labelled(asked.assign(ef=np.nan), None, AuditConfig(ef_reader="phantom"))
    with pytest.raises(TooFewSamples, match="needs their videos"):
        together.labelled(asked, {"a": tmp_path / "a.pt"}, AuditConfig(ef_reader="phantom"))


@pytest.mark.parametrize("text", ["clip,ef\na,3\n", "clip_id,ef\na,high\n", ""])
def test_an_unreadable_table_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "wrong.csv").write_text(text)
    asked = pd.DataFrame({"clip_id": ["a"], "ef": [50.0]})
    with pytest.raises(InputError, match=r"wrong\.csv.*--measured-ef"):
        together.labelled(asked, None, AuditConfig(measured_ef=tmp_path / "wrong.csv"))


def test_a_reader_sees_the_decoded_frames_and_their_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {}
    for i, ef in enumerate(REQUESTED):
        files[f"s{i:02d}"] = tmp_path / f"s{i:02d}.avi"
        write_video(files[f"s{i:02d}"], np.full((3, 112, 112), round(ef), np.uint8), fps=20.0, codec="ffv1")
    seen: list[float] = []

    def gray(frames: np.ndarray, fps: float) -> float:
        seen.append(fps)
        return float(frames.mean())

    monkeypatch.setitem(EF_READERS, "phantom", gray)
    asked = pd.DataFrame({"clip_id": list(files), "ef": REQUESTED})
    found = together.labelled(asked, files, AuditConfig(ef_reader="phantom"))
    assert found.reader == "phantom"
    assert found.requested_vs_measured.mae.value < 1
    assert seen == [20.0] * 40


def test_a_table_that_measures_other_clips_says_so(tmp_path: Path) -> None:
    (tmp_path / "ef.csv").write_text("clip_id,ef\nother7,50\n")
    asked = pd.DataFrame({"clip_id": ["s0", "s1"], "ef": [40.0, 60.0]})
    with pytest.raises(TooFewSamples, match=r"ef\.csv measures none of the 2 synthetic clips: .* other7, .* like s0"):
        together.labelled(asked, None, AuditConfig(measured_ef=tmp_path / "ef.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip_id,ef\na,50\nb,60\na,51\n", "found a more than once"),
        ("clip_id,ef\na,50\nb,130\n", "ef from 0 to 100; found 130 for b"),
        ("clip_id,ef\na,\n", "ef from 0 to 100; found nan for a"),
        ("clip_id,ef\n", "found no rows"),
        ("name,ef\na,50\n", "name the columns so"),
        ("clip_id,ef\na,high\n", "correct the path or the file"),
        (None, "correct the path or the file"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "ef.csv").write_text(text)
    with pytest.raises(InputError, match=rf"ef\.csv: expected .*{words}"):
        together.measured_table(tmp_path / "ef.csv")
