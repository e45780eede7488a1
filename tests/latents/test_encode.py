from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mnemoscope.core.errors import InputError, Mismatch, OutputConflict, TooFewSamples
from mnemoscope.data.manifest import Manifest, make_manifest
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.video import read_clip, write_video
from mnemoscope.latents import writer
from mnemoscope.latents.encode import PixelEncoder, encode_set, source_fingerprint
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore, Space

TRANSFORM = FrameTransform(height=16, width=24)
NAMES = ("b", "a", "d", "c")


@dataclass
class HalfSize:
    """Two channels of half the size, known in closed form; notes what it is asked for."""

    space: Space = "latent"
    fingerprint: str = "half"
    dtype: str = "float16"
    asked: list[str] = field(default_factory=list)
    fails_at: str | None = None

    def frame_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return (2, height // 2, width // 2)

    def encode(self, frames: np.ndarray, *, clip_id: str) -> np.ndarray:
        self.asked.append(clip_id)
        if clip_id == self.fails_at:
            raise KeyboardInterrupt
        return half_size(frames)


def half_size(frames: np.ndarray) -> np.ndarray:
    values = frames[:, ::2, ::2].astype(np.float16) / 256
    return np.stack([values, 1 - values], axis=1)


def write_clip(path: Path, *, n_frames: int, seed: int) -> None:
    frames = np.random.default_rng(seed).integers(0, 255, (n_frames, 20, 24), dtype=np.uint8)
    write_video(path, frames, fps=25.0, codec="ffv1")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK_FRAMES", 4)
    monkeypatch.setattr(writer, "SHARD_FRAMES", 8)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    root = tmp_path / "clips"
    root.mkdir()
    for seed, name in enumerate(NAMES):
        write_clip(root / f"{name}.avi", n_frames=5 + seed, seed=seed)
    return listed(root, [f"{name}.avi" for name in NAMES])


def listed(root: Path, files: list[str], *, split: str = "train") -> Manifest:
    rows = [{"clip_id": Path(f).stem, "path": f, "patient_id": Path(f).stem, "split": split} for f in files]
    return make_manifest(pd.DataFrame(rows), root=root)


def encode(manifest: Manifest, out: Path, encoder: object = None, **options: object) -> LatentStore:
    encoder = HalfSize() if encoder is None else encoder
    return encode_set(manifest, out, encoder=encoder, transform=TRANSFORM, source="s", **options)


def test_pixels_are_stored_as_the_reader_gives_them(manifest: Manifest, tmp_path: Path) -> None:
    store = encode(manifest, tmp_path / "out", PixelEncoder())
    assert store.clips["clip_id"].tolist() == sorted(NAMES)
    for row, frames in store.clips_of(store.clips):
        expected = read_clip(manifest.root / row["path"], TRANSFORM)
        assert frames.dtype == np.uint8
        np.testing.assert_array_equal(frames, expected[:, None])


def test_latents_are_what_the_encoder_gives_for_the_decoded_frames(manifest: Manifest, tmp_path: Path) -> None:
    store = encode(manifest, tmp_path / "out")
    for row, latents in store.clips_of(store.clips):
        np.testing.assert_array_equal(latents, half_size(read_clip(manifest.root / row["path"], TRANSFORM)))


def test_the_record_says_where_the_store_came_from(manifest: Manifest, tmp_path: Path) -> None:
    record = encode(manifest, tmp_path / "out").record
    assert (record.space, record.encoder, record.source) == ("latent", "half", "s")
    assert (record.height, record.width, record.target_fps) == (16, 24, None)


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_a_frame_limit_keeps_the_beginning_of_every_clip(manifest: Manifest, tmp_path: Path, limit: int) -> None:
    whole, cut = encode(manifest, tmp_path / "whole"), encode(manifest, tmp_path / "cut", max_frames=limit)
    for (_, full), (_, kept) in zip(whole.clips_of(whole.clips), cut.clips_of(cut.clips), strict=True):
        np.testing.assert_array_equal(kept, full[:limit])


def test_ready_latents_are_stored_as_they_are(tmp_path: Path) -> None:
    latents = torch.randn(6, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    torch.save(latents, tmp_path / "a.pt")
    torch.save(latents * 2, tmp_path / "b.PT")
    encoder = HalfSize()
    store = encode(listed(tmp_path, ["a.pt", "b.PT"]), tmp_path / "out", encoder, max_frames=4)
    np.testing.assert_array_equal(store.read(0, 4), latents[:4].numpy().astype(np.float16))
    np.testing.assert_array_equal(store.read(4, 4), (latents[:4] * 2).numpy().astype(np.float16))
    assert encoder.asked == []


@pytest.mark.parametrize("shape", [(6, 4, 8, 12), (6, 2, 8, 8)])
def test_ready_latents_of_another_shape_name_the_clip_and_both_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    torch.save(torch.zeros(shape), tmp_path / "odd.pt")
    with pytest.raises(Mismatch, match=r"odd: expected latents of shape \(2, 8, 12\).*found \(.*--vae"):
        encode(listed(tmp_path, ["odd.pt"]), tmp_path / "out")


def test_ready_latents_beyond_half_precision_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.full((2, 2, 8, 12), 1e6), tmp_path / "huge.pt")
    with pytest.raises(InputError, match="huge"):
        encode(listed(tmp_path, ["huge.pt"]), tmp_path / "out")


@pytest.mark.parametrize("damage", ["missing", "empty", "noise"])
def test_an_unreadable_clip_is_named_and_the_others_are_kept(manifest: Manifest, tmp_path: Path, damage: str) -> None:
    file = manifest.root / "d.avi"
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(b"" if damage == "empty" else b"no video" * 100)
    with pytest.raises(InputError, match=r"d\.avi"):
        encode(manifest, tmp_path / "out")
    file.write_bytes(content)
    encoder = HalfSize()
    encode(manifest, tmp_path / "out", encoder)
    assert encoder.asked == ["c", "d"]


@pytest.mark.parametrize("fails_at", NAMES)
def test_an_interrupted_encode_goes_on_to_the_same_store(manifest: Manifest, tmp_path: Path, fails_at: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        encode(manifest, tmp_path / "out", HalfSize(fails_at=fails_at))
    assert encode(manifest, tmp_path / "out").fingerprint == encode(manifest, tmp_path / "whole").fingerprint


def test_rows_in_any_order_give_the_same_store(manifest: Manifest, tmp_path: Path) -> None:
    shuffled = listed(manifest.root, [f"{name}.avi" for name in reversed(NAMES)])
    assert encode(shuffled, tmp_path / "a").fingerprint == encode(manifest, tmp_path / "b").fingerprint


@pytest.mark.parametrize(
    ("n_frames", "limit", "expected"),
    [
        ([6, 5, 8, 7], None, [(6, 26), (11, 26), (19, 26), (26, 26)]),
        ([6, 5, 8, 7], 5, [(5, 20), (10, 20), (15, 20), (20, 20)]),
        ([None, 5, None, 7], None, [(6, 12), (11, 12), (19, 19), (26, 26)]),
    ],
)
def test_encoded_frames_are_counted(
    manifest: Manifest, tmp_path: Path, n_frames: list[int | None], limit: int | None, expected: list[tuple[int, int]]
) -> None:
    seen: list[tuple[object, ...]] = []
    known = replace(manifest, clips=manifest.clips.assign(n_frames=pd.array(n_frames, dtype="Int64")))
    encode(known, tmp_path / "out", max_frames=limit, stage="mine", progress=lambda *call: seen.append(call))
    assert seen == [("mine", done, total, "frame") for done, total in expected]


def test_frames_are_altered_before_they_are_encoded(manifest: Manifest, tmp_path: Path) -> None:
    shift = {name: number for number, name in enumerate(NAMES)}

    def alter(frames: np.ndarray, clip_id: str) -> np.ndarray:
        return frames[::2] // 2 + np.uint8(shift[clip_id])

    store = encode(manifest, tmp_path / "out", alter=alter)
    for row, latents in store.clips_of(store.clips):
        frames = read_clip(manifest.root / row["path"], TRANSFORM)[::2] // 2 + np.uint8(shift[row["clip_id"]])
        np.testing.assert_array_equal(latents, half_size(frames))


def test_ready_latents_cannot_be_altered(tmp_path: Path) -> None:
    torch.save(torch.zeros(2, 2, 8, 12), tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"a\.pt: a ready latent has no pixels to alter.*altered_frames=0"):
        encode(listed(tmp_path, ["a.pt"]), tmp_path / "out", alter=lambda frames, clip_id: frames)


def test_a_finished_store_is_not_made_again(manifest: Manifest, tmp_path: Path) -> None:
    first = encode(manifest, tmp_path / "out")
    encoder = HalfSize()
    assert encode(manifest, tmp_path / "out", encoder).fingerprint == first.fingerprint
    assert encoder.asked == []


OTHER: dict[str, Callable[[Manifest], tuple[Manifest, HalfSize]]] = {
    "clips": lambda m: (replace(m, clips=m.clips[1:].reset_index(drop=True)), HalfSize()),
    "encoder": lambda m: (m, HalfSize(fingerprint="another")),
}


@pytest.mark.parametrize("change", OTHER)
def test_a_finished_store_of_something_else_is_refused(manifest: Manifest, tmp_path: Path, change: str) -> None:
    encode(manifest, tmp_path / "out")
    others, encoder = OTHER[change](manifest)
    with pytest.raises(OutputConflict, match=r"out: a finished store of other clips or settings.*--out"):
        encode(others, tmp_path / "out", encoder)


def test_a_set_without_train_clips_needs_the_train_constants(manifest: Manifest, tmp_path: Path) -> None:
    suspects = listed(manifest.root, [f"{name}.avi" for name in NAMES], split="synthetic")
    encoder = HalfSize()
    with pytest.raises(TooFewSamples, match="--scaling-from"):
        encode(suspects, tmp_path / "out", encoder)
    assert encoder.asked == []
    constants = Scaling(low=(0.0, 0.0), high=(1.0, 1.0), mean=(0.5, 0.5), std=(0.25, 0.25))
    assert encode(suspects, tmp_path / "out", encoder, scaling=constants).record.scaling == constants


def test_the_source_fingerprint_sees_content_and_table_but_not_the_place(manifest: Manifest, tmp_path: Path) -> None:
    before = source_fingerprint(manifest)
    moved = manifest.root.rename(tmp_path / "elsewhere")
    assert source_fingerprint(replace(manifest, root=moved)) == before
    relabelled = replace(manifest, root=moved, clips=manifest.clips.assign(ef=55.0))
    assert source_fingerprint(relabelled) != before
    (moved / "a.avi").unlink()
    absent = source_fingerprint(replace(manifest, root=moved))
    write_clip(moved / "a.avi", n_frames=5, seed=99)
    assert len({before, absent, source_fingerprint(replace(manifest, root=moved))}) == 3
