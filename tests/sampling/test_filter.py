import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnemoscope.core.errors import CorruptFile, InputError, Mismatch
from mnemoscope.models import reid
from mnemoscope.sampling import filter as room
from mnemoscope.sampling.filter import MAX_ATTEMPTS, FrameFilter, load_filter, passing_frames
from mnemoscope.search import WeightedL1
from tests.sampling.tiny_models import SHAPE, named_noise, record_of, write_audit

RECORD = record_of("lidm")
COPY_LOGIT = 5.0


class Means:
    """Takes the model's place: a frame's features are the means of its channels."""

    network = SimpleNamespace(search_head=lambda: WeightedL1(weight=-np.ones(SHAPE[0]), bias=COPY_LOGIT))

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return frames.mean(axis=(2, 3), dtype=np.float32)


def standard_frame(name: str) -> np.ndarray:
    return named_noise([name], SHAPE)[0]


def stored(frame: np.ndarray) -> np.ndarray:
    """What a store would hold of a standardised frame."""
    return RECORD.scaling.invert(frame, "standard").astype(np.float16)


KNOWN = [standard_frame("known 0"), standard_frame("known 1")]


def judge(tau: float = COPY_LOGIT - 1e-4) -> FrameFilter:
    model: Any = Means()
    return FrameFilter(model, model.embed(stored(np.stack(KNOWN))), tau, "f")


# How many copies each sample draws before a frame of its own.
COPIES = {"a": 0, "b": 2, "c": 1, "d": 7}


def draw(names: Sequence[str]) -> np.ndarray:
    frames = []
    for name in names:
        sample, _, attempt = name.split("/")
        number = int(attempt)
        frames.append(KNOWN[number % 2] if number < COPIES[sample] else standard_frame(name))
    return np.stack(frames)


@pytest.mark.parametrize("ids", [["a", "b", "c", "d"], ["d", "b"], ["c"], ["a"]])
def test_copies_are_drawn_again_until_a_frame_passes(ids: list[str]) -> None:
    """Whatever else is in the batch."""
    frames, attempts = passing_frames(draw, ids, RECORD, judge())
    assert attempts.tolist() == [COPIES[name] + 1 for name in ids]
    expected = np.stack([standard_frame(f"{name}/frame/{COPIES[name]}") for name in ids])
    np.testing.assert_array_equal(frames, expected)
    assert judge().passes(stored(frames)).all()


def test_only_refused_frames_are_drawn_again() -> None:
    asked: list[list[str]] = []

    def noting(names: Sequence[str]) -> np.ndarray:
        asked.append(list(names))
        return draw(names)

    passing_frames(noting, ["a", "b", "c"], RECORD, judge())
    assert asked == [["a/frame/0", "b/frame/0", "c/frame/0"], ["b/frame/1", "c/frame/1"], ["b/frame/2"]]


def test_without_a_filter_the_first_frame_is_taken() -> None:
    frames, attempts = passing_frames(draw, ["b", "d"], RECORD, None)
    assert attempts.tolist() == [1, 1]
    np.testing.assert_array_equal(frames, np.stack([KNOWN[0], KNOWN[0]]))


def test_a_frame_at_tau_passes_as_it_does_in_an_audit() -> None:
    copy = stored(np.stack(KNOWN))
    assert judge(COPY_LOGIT).passes(copy).tolist() == [True, True]
    assert judge(np.nextafter(COPY_LOGIT, 0)).passes(copy).tolist() == [False, False]


def test_the_best_of_the_gallery_decides_in_unscaled_latents() -> None:
    frames = np.stack([KNOWN[1], standard_frame("new")])
    new, gallery = (stored(f).mean(axis=(-1, -2), dtype=np.float32) for f in (frames[1], np.stack(KNOWN)))
    logit = COPY_LOGIT - np.abs(gallery - new).sum(axis=1).min()
    assert judge(logit + 1e-5).passes(stored(frames)).tolist() == [False, True]
    assert judge(logit - 1e-5).passes(stored(frames)).tolist() == [False, False]


def test_nothing_but_copies_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COPIES, "c", 10**6)
    with pytest.raises(InputError, match=rf"c: the filter refused {MAX_ATTEMPTS} frames.*audit it.*percentile"):
        passing_frames(draw, ["a", "c", "b"], RECORD, judge())


def test_the_last_attempt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_ATTEMPTS", 8)
    assert passing_frames(draw, ["a", "d"], RECORD, judge())[1].tolist() == [1, 8]


TAU = COPY_LOGIT - 1e-3


def audited(folder: Path, *, model: Path | None = None) -> np.ndarray:
    """A finished audit whose train frames are the known ones; these as they are stored."""
    train = stored(np.stack(KNOWN))
    write_audit(folder, train, RECORD, tau=TAU, model=model)
    return train


def test_tau_stands_in_an_audit_as_a_number() -> None:
    """The hand-made audit of these tests is as real ones are."""
    schema = json.loads((Path(reid.__file__).parents[1] / "audit" / "audit.schema.json").read_text())
    assert schema["$defs"]["Privacy"]["properties"]["tau"]["type"] == "number"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_filter_of_an_audit_refuses_its_train_frames(tmp_path: Path, elsewhere: bool) -> None:
    train = audited(tmp_path / "run", model=tmp_path / "model" if elsewhere else None)
    found = load_filter(tmp_path / "run", RECORD)
    assert (found.tau, found.gallery.shape) == (TAU, (2, 8))
    frames = np.concatenate([train, stored(named_noise(["x", "y", "z"], SHAPE))])
    assert found.passes(frames).tolist() == [False, False, True, True, True]


def test_the_fingerprint_sees_tau_gallery_and_model(tmp_path: Path) -> None:
    audited(tmp_path)
    first = load_filter(tmp_path, RECORD).fingerprint
    assert load_filter(tmp_path, RECORD).fingerprint == first
    content = (tmp_path / "audit.json").read_text()
    (tmp_path / "audit.json").write_text(content.replace(str(TAU), "3.0"))
    other_tau = load_filter(tmp_path, RECORD).fingerprint
    (tmp_path / "audit.json").write_text(content)
    np.savez(tmp_path / "features" / "train.npz", values=np.zeros((2, 8), dtype=np.float32))
    assert len({first, other_tau, load_filter(tmp_path, RECORD).fingerprint}) == 3


@pytest.mark.parametrize("part", ["audit.json", "run.json", "features/train.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "other"])
def test_a_folder_that_is_no_finished_audit_is_refused(tmp_path: Path, part: str, damage: str) -> None:
    audited(tmp_path)
    file = tmp_path / part
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes({"empty": b"", "half": content[: len(content) // 2], "other": b"{}"}[damage])
    with pytest.raises(InputError, match=r"(?s)--filter .*finished audit.*mnemoscope audit"):
        load_filter(tmp_path, RECORD)


def test_an_audit_that_came_to_no_threshold_is_refused(tmp_path: Path) -> None:
    audited(tmp_path)
    (tmp_path / "audit.json").write_text(json.dumps({"privacy": None}))
    with pytest.raises(InputError, match="--filter"):
        load_filter(tmp_path, RECORD)


def test_an_audit_whose_model_is_gone_is_refused(tmp_path: Path) -> None:
    audited(tmp_path)
    (tmp_path / "reid" / "model" / "config.json").unlink()
    with pytest.raises(CorruptFile, match=r"model.config\.json"):
        load_filter(tmp_path, RECORD)


def test_an_audit_of_other_latents_is_refused(tmp_path: Path) -> None:
    audited(tmp_path)
    scaling = RECORD.scaling
    others = [
        replace(RECORD, scaling=replace(scaling, mean=(0.5, *scaling.mean[1:]))),
        replace(RECORD, encoder="another"),
    ]
    for record in others:
        with pytest.raises(Mismatch, match=r"(?s)--filter .*VAE and scaling.*mnemoscope audit --real STORE"):
            load_filter(tmp_path, record)
