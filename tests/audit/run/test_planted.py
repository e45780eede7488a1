from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.run import planted, sources, stages
from mnemoscope.audit.run.planted import Planted, one_clip_each, planted_matches
from mnemoscope.core.errors import CorruptFile, Mismatch
from mnemoscope.core.provenance import Run
from mnemoscope.core.rng import generator
from mnemoscope.data.ladder import LADDER, RUNGS, Beside
from mnemoscope.latents.encode import PixelEncoder, encode_set
from mnemoscope.latents.features import FrameFeatures, extract_features
from mnemoscope.latents.store import LatentStore
from mnemoscope.search import WeightedL1
from tests.reference import tiny_audit
from tests.reference.tiny_audit import SPLITS, drifting, settings

N_TRAIN = SPLITS.count("train")
PIXEL_RUNGS = [rung.name for rung in LADDER if rung.change]
PIXELS = PixelEncoder()
# Six frames, of which the gallery holds 0 and 3: a quarter of their distance is less than a frame.
TOO_SHORT = "time_shift"


class Projecting:
    """A network that was never trained: 16 mixtures of pixels, and the head of a monotone one."""

    head = WeightedL1(weight=-np.linspace(0.5, 2, 16, dtype=np.float32), bias=5.0)
    network = SimpleNamespace(search_head=lambda: Projecting.head)

    def embed(self, frames: np.ndarray) -> np.ndarray:
        pixels = frames.reshape(len(frames), -1) / 255 - 0.5
        mixtures = np.random.default_rng(0).normal(size=(pixels.shape[1], 16))
        return (pixels @ mixtures / 4).astype(np.float32)


NETWORK = Projecting()


@dataclass(frozen=True)
class Bench:
    """A tiny audit, ready for planting."""

    store: LatentStore
    files: dict[str, Path]
    out: Path
    model: Any = NETWORK

    def gallery(self, frames: int | None = 2) -> FrameFeatures:
        return extract_features(self.store, self.store.of_split("train"), self.model.embed, frames_per_clip=frames)

    def plant(self, *, files: bool = True, encoder: Any = PIXELS, count: int = 100, **changes: Any) -> Planted:
        config = settings(**changes)
        frames = None if config.train_frames == "all" else config.train_frames
        return planted_matches(
            self.run(),
            self.store,
            self.files if files else None,
            self.model,
            "key",
            self.gallery(frames),
            encoder=encoder if files else None,
            config=config,
            count=count,
        )

    @cached_property
    def pixels(self) -> np.ndarray:
        """Features of the gallery's frames, from the pixels on."""
        return self.model.embed(np.concatenate([drifting(p)[[0, 3]] for p in range(N_TRAIN)])[:, None])

    def run(self) -> Run:
        return Run(self.out, command="audit", identity={}, config={}, seed=0)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[LatentStore, dict[str, Path]]:
    """The tiny cohort's store and its files."""
    place = tmp_path_factory.mktemp("planted")
    clips = sources.real_manifest(tiny_audit.write_real(place / "real"), settings())
    store = encode_set(
        clips, place / "store", encoder=PixelEncoder(), transform=settings().frames, source="tiny", max_frames=None
    )
    files = dict(zip(clips.clips["clip_id"], clips.files, strict=True))
    return store, files


@pytest.fixture
def bench(encoded: tuple[LatentStore, dict[str, Path]], tmp_path: Path) -> Bench:
    store, files = encoded
    return Bench(store, dict(files), tmp_path / "run")


@dataclass(frozen=True)
class Inverting(PixelEncoder):
    """Pixels with a way back that turns the picture into its negative."""

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return 255 - latents[:, 0]


def best_logits(bench: Bench, frames: np.ndarray) -> np.ndarray:
    """Best frame pair of these frames with each train clip, from the pixels on, (N_TRAIN,)."""
    head = Projecting.head
    query, gallery = (values.astype(np.float64) for values in (bench.model.embed(frames[:, None]), bench.pixels))
    pairs = head.bias + np.abs(query[:, None] - gallery[None]) @ head.weight.astype(np.float64)
    return pairs.max(axis=0).reshape(N_TRAIN, 2).max(axis=1)


def test_every_rung_by_brute_force_from_the_pixels_on(bench: Bench) -> None:
    shown = bench.plant(count=4, seed=3).rungs
    assert set(shown) == set(RUNGS) - {TOO_SHORT, "vae_round_trip"}
    for name, copies in shown.items():
        assert len(set(copies.source)) == 4
        for number, source in enumerate(copies.source):
            rung, rng = RUNGS[name], generator(3, "ladder", name, f"c{source:02d}")
            frames = drifting(int(source))[[1, 4] if rung.move else [0, 3]]
            other = drifting(int(copies.source[number - 1]))[[0, 3]]
            logits = best_logits(bench, rung.changed(frames, rng, Beside(other=other)))
            assert copies.p_max[number] == pytest.approx(logits.max(), abs=1e-5), name
            assert copies.nearest[number] == logits.argmax(), name


def test_exact_copies_score_the_heads_bias_and_lead_to_their_source(bench: Bench) -> None:
    exact = bench.plant().rungs["exact"]
    assert sorted(exact.source) == list(range(N_TRAIN))
    np.testing.assert_allclose(exact.p_max, Projecting.head.bias, atol=1e-6)
    assert exact.right_clip.all()
    assert exact.right_patient.all()


@pytest.mark.parametrize("query_frames", [1, 2, 3, "all"])
def test_copies_are_looked_up_as_suspects_are(bench: Bench, query_frames: Any) -> None:
    """The same call that finds the nearest of holdout and synthetic clips, given the train clips themselves."""
    count = None if query_frames == "all" else query_frames
    clips = bench.store.of_split("train")
    query = extract_features(bench.store, clips, bench.model.embed, frames_per_clip=count)
    head = Projecting.head
    found = stages.matches(query, bench.gallery(), head, device="cpu")
    exact = bench.plant(query_frames=query_frames).rungs["exact"]
    np.testing.assert_allclose(exact.p_max, found.p_max[exact.source], atol=1e-6)
    np.testing.assert_array_equal(exact.nearest, found.nearest[exact.source])


def test_the_round_trip_goes_through_the_encoder_and_back(bench: Bench) -> None:
    copies = bench.plant(count=3, encoder=Inverting()).rungs["vae_round_trip"]
    for source, p_max in zip(copies.source, copies.p_max, strict=True):
        assert p_max == pytest.approx(best_logits(bench, 255 - drifting(int(source))[[0, 3]]).max(), abs=1e-5)


def test_what_cannot_be_shown_says_why(bench: Bench) -> None:
    shown = bench.plant()
    assert set(shown.absent) == {"vae_round_trip", TOO_SHORT}
    assert "--space latent" in shown.absent["vae_round_trip"]
    assert "--train-frames, --query-frames" in shown.absent[TOO_SHORT]
    assert list(shown.rungs) == [rung.name for rung in LADDER if rung.name not in shown.absent]


def test_latents_alone_show_what_leaves_the_pixels_as_they_are(bench: Bench) -> None:
    """Files that are ready latents hold no pixels either."""
    full, latents = bench.plant(), bench.plant(files=False)
    assert set(latents.rungs) == {"exact", "neighbouring_frame", "other_frame"}
    assert {name for name, reason in latents.absent.items() if "--real" in reason} == set(PIXEL_RUNGS)
    for name, copies in latents.rungs.items():
        np.testing.assert_array_equal(copies.p_max, full.rungs[name].p_max)
    bench.files.update({clip_id: file.with_suffix(".pt") for clip_id, file in bench.files.items()})
    assert bench.plant().absent == latents.absent


@pytest.mark.parametrize("changes", [{"train_frames": "all"}, {"query_frames": "all"}, {"train_frames": 5}])
def test_where_all_frames_are_in_the_gallery_none_can_move(bench: Bench, changes: dict[str, Any]) -> None:
    absent = bench.plant(files=False, **changes).absent
    moving = {rung.name for rung in LADDER if rung.move}
    assert {
        name for name, reason in absent.items() if "in the gallery" in reason or "of the gallery" in reason
    } == moving


def test_only_clips_with_a_video_are_changed_and_one_alone_is_blended_with_nobody(bench: Bench) -> None:
    for clip_id in list(bench.files)[1:]:
        bench.files[clip_id] = Path(f"{clip_id}.pt")
    shown = bench.plant()
    assert shown.rungs["gain"].source.tolist() == [0]
    assert len(shown.rungs["exact"].source) == N_TRAIN
    assert "no second train patient" in shown.absent["blend"]


def test_a_clip_is_decoded_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that is blended into the first a second time, so that no more than two are held."""
    read: list[Path] = []

    def counting(path: Path, *args: Any, **options: Any) -> np.ndarray:
        read.append(path)
        return plain(path, *args, **options)

    plain = planted.read_clip
    monkeypatch.setattr(planted, "read_clip", counting)
    bench.plant(count=5)
    assert len(read) == 6
    assert len(set(read)) == 5


def test_the_stage_is_kept_while_nothing_changed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench.plant()

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(planted, "read_clip", never)
        again = bench.plant()
        with pytest.raises(AssertionError, match="decoded again"):
            bench.plant(seed=9)
    assert again.absent == first.absent
    for name, copies in first.rungs.items():
        assert copies.right_clip.sum() <= copies.right_patient.sum()
        for field in ("source", "p_max", "nearest", "right_clip", "right_patient"):
            np.testing.assert_array_equal(getattr(copies, field), getattr(again.rungs[name], field))


def test_a_damaged_result_says_what_to_delete(bench: Bench) -> None:
    bench.plant()
    (bench.out / "ladder" / "ladder.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(CorruptFile, match=r"delete .*ladder and run the same command again"):
        bench.plant()


def test_another_encoder_or_size_is_refused(bench: Bench) -> None:
    with pytest.raises(Mismatch, match="another VAE"):
        bench.plant(encoder=PixelEncoder(fingerprint="other"))
    with pytest.raises(Mismatch, match=r"--set frames\.height"):
        bench.plant(frames={"height": 16, "width": 16})


def test_progress_counts_clips(bench: Bench) -> None:
    told: list[tuple[Any, ...]] = []
    planted_matches(
        bench.run(),
        bench.store,
        None,
        bench.model,
        "key",
        bench.gallery(),
        encoder=None,
        config=settings(),
        count=3,
        progress=lambda *step: told.append(step),
    )
    assert told == [("ladder", done, 3, "clip") for done in (1, 2, 3)]


# Which clips


def clips_of(counts: list[int]) -> pd.DataFrame:
    rows = [(f"c{p:02d}{i}", f"p{p:02d}") for p, count in enumerate(counts) for i in range(count)]
    return pd.DataFrame(rows, columns=["clip_id", "patient_id"])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9), st.integers(1, 12), st.randoms(use_true_random=False))
def test_each_clip_is_of_another_patient_whatever_the_order(
    counts: list[int], count: int, shuffle: Callable[..., Any]
) -> None:
    clips = clips_of(counts)
    chosen = clips.iloc[one_clip_each(clips, count=count, seed=5)]
    assert len(chosen) == min(count, len(counts))
    assert chosen["patient_id"].is_unique
    order = shuffle.sample(range(len(clips)), len(clips))  # type: ignore[attr-defined]
    mixed = clips.iloc[order]
    again = mixed.iloc[one_clip_each(mixed, count=count, seed=5)]
    assert again["clip_id"].tolist() == chosen["clip_id"].tolist()


def test_every_clip_of_a_patient_and_every_patient_is_drawn_by_some_seed() -> None:
    clips = clips_of([3, 1, 2])
    assert {int(one_clip_each(clips, count=1, seed=seed)[0]) for seed in range(80)} == set(range(6))
