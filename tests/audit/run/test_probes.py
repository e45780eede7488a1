from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mnemoscope.audit.run import probes
from mnemoscope.audit.run.probes import HIDE, SWAP, inner_ellipse, sector_mask, shortcut_probes, with_border, with_text
from mnemoscope.audit.verification import auc
from mnemoscope.core.errors import Mismatch, TooFewSamples
from mnemoscope.core.provenance import Run
from mnemoscope.core.types import Probe
from mnemoscope.data.alter import fan
from mnemoscope.data.manifest import make_manifest
from mnemoscope.data.writing import write_video
from mnemoscope.latents.encode import PixelEncoder, encode_set
from mnemoscope.latents.store import LatentStore
from mnemoscope.phantom.cohort import CohortSpec, clips, render
from mnemoscope.search import WeightedL1
from tests.reference.tiny_audit import settings

SIZE = 64
N_HOLDOUT = 12
CONFIG = settings(frames={"height": SIZE, "width": SIZE})
WHO = slice(26, 38)


def clip_of(patient: int) -> np.ndarray:
    """Four frames: a middle of the patient's brightness that beats a little, a fan and a rim of their own."""
    rng = np.random.default_rng([3, patient])
    frames = rng.integers(90, 110, (4, SIZE, SIZE)).astype(np.uint8)
    frames[:, WHO, WHO] = 30 + 15 * patient + rng.integers(0, 3, (4, 12, 12))
    frames[:, -4:] = 60 + 15 * patient
    mask = {"top_share": -0.1, "half_angle_deg": 28 + patient, "depth_share": 1.3}
    return np.stack([fan(frame, **mask) for frame in frames])


@dataclass(frozen=True)
class Network:
    """A network of which we know what it looks at; logit 5 minus the difference of that."""

    look: Callable[[np.ndarray], np.ndarray]

    def embed(self, frames: np.ndarray) -> np.ndarray:
        return self.look(frames[:, 0].astype(np.float32)).reshape(len(frames), -1).astype(np.float32)

    @property
    def network(self) -> Any:
        size = self.embed(np.zeros((1, 1, SIZE, SIZE), np.uint8)).shape[1]
        head = WeightedL1(weight=np.full(size, -1 / size, np.float32), bias=5.0)
        return SimpleNamespace(search_head=lambda: head)


SEES = {
    "anatomy": lambda x: x[:, WHO, WHO].mean(axis=(1, 2)),
    "sector": lambda x: x[:, 27:42] > 0,
    "text": lambda x: x[:, 1:14, 1:30],
    "rim": lambda x: x[:, -3:, 28:36].mean(axis=(1, 2)),
}


@dataclass(frozen=True)
class Bench:
    store: LatentStore
    files: dict[str, Path]
    out: Path

    def probe(self, sees: str, *, files: bool = True, encoder: Any = None, **changes: Any) -> dict[str, Probe]:
        run = Run(self.out, command="audit", identity={}, config={}, seed=0)
        model: Any = Network(SEES[sees])
        return shortcut_probes(
            run,
            self.store,
            self.files if files else None,
            model,
            sees,
            encoder=encoder or PixelEncoder(),
            config=CONFIG,
            **changes,
        )


def write(folder: Path, splits: list[str]) -> Bench:
    names = [f"c{number:02d}" for number in range(len(splits))]
    for number, name in enumerate(names):
        write_video(folder / f"{name}.avi", clip_of(number), fps=25.0, codec="ffv1")
    table = pd.DataFrame({"clip_id": names, "path": [f"{n}.avi" for n in names], "patient_id": names, "split": splits})
    manifest = make_manifest(table, root=folder)
    store = encode_set(manifest, folder / "store", encoder=PixelEncoder(), transform=CONFIG.frames, source="toy")
    return Bench(store, dict(zip(names, manifest.files, strict=True)), folder / "run")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return write(tmp_path_factory.mktemp("probes"), ["holdout"] * N_HOLDOUT + ["train"])


@pytest.fixture
def bench(written: Bench, tmp_path: Path) -> Bench:
    return Bench(written.store, dict(written.files), tmp_path / "run")


# What a network sees is what misleads it


def test_a_network_that_sees_anatomy_is_not_misled(bench: Bench) -> None:
    found = bench.probe("anatomy")
    assert list(found) == [*HIDE, *SWAP]
    for name, probe in found.items():
        assert probe.auc.value == 1.0, name
        assert probe.shift.value == pytest.approx(0, abs=1e-4), name


# A mask can only take away: where the other sector is wider, the own one still shows.
@pytest.mark.parametrize(
    ("sees", "misled_by", "highest_auc"),
    [("sector", "mask_swapped", 0.8), ("text", "text_swapped", 0.1), ("rim", "borders_swapped", 0.1)],
)
def test_a_network_that_keys_on_something_else_is_drawn_by_it(
    bench: Bench, sees: str, misled_by: str, highest_auc: float
) -> None:
    found = bench.probe(sees)
    drawn = found[misled_by]
    assert drawn.shift.low > 0
    assert drawn.auc.value < highest_auc
    for name in set(SWAP) - {misled_by, "borders_swapped"}:
        assert abs(found[name].shift.value) < 0.25 * drawn.shift.value, name


def test_what_is_hidden_tells_nobody_apart(bench: Bench) -> None:
    """And brings strangers closer, whom it had told apart."""
    sector, rim = bench.probe("sector"), bench.probe("rim")
    assert sector["unchanged"].auc.value == rim["unchanged"].auc.value == 1.0
    for hidden in (sector["mask_hidden"], rim["borders_hidden"]):
        assert hidden.auc.value == 0.5
        assert hidden.shift.low > 0


def test_unchanged_clips_are_those_of_verification_and_nothing_is_added(bench: Bench) -> None:
    """AUC by brute force over the pairs of clips that wear the same; with twelve clips each of two groups has six."""
    found = bench.probe("text")["unchanged"]
    assert (found.shift.value, found.shift.low, found.shift.high) == (0, 0, 0)
    rows = probes._clips(bench.store, bench.files, 60, CONFIG.seed)["clip_id"]
    frames = [clip_of(int(name[1:]))[[0, 2]] for name in rows]
    values = np.stack([Network(SEES["text"]).embed(pair[:, None]) for pair in frames]).astype(np.float64)
    logits = 5 - np.abs(values[:, None, 0] - values[None, :, 1]).mean(axis=-1)
    group = np.arange(12) // 6
    strangers = (group[:, None] == group[None]) & ~np.eye(12, dtype=bool)
    assert found.auc.value == pytest.approx(auc(np.diag(logits), logits[strangers]), abs=1e-6)


# Which clips


def test_four_patients_are_enough_and_three_are_not(bench: Bench) -> None:
    few = Bench(bench.store, dict(list(bench.files.items())[:4]), bench.out)
    assert few.probe("anatomy")["mask_swapped"].auc.value == 1.0
    fewer = Bench(bench.store, dict(list(bench.files.items())[:3]), bench.out)
    with pytest.raises(TooFewSamples, match=r"at least 4 .*--real"):
        fewer.probe("anatomy")


def test_latents_have_nothing_to_hide(bench: Bench) -> None:
    with pytest.raises(TooFewSamples, match="in place of latents"):
        bench.probe("anatomy", files=False)
    latents = Bench(bench.store, {name: Path(f"{name}.pt") for name in bench.files}, bench.out)
    with pytest.raises(TooFewSamples, match="in place of latents"):
        latents.probe("anatomy")


def test_val_clips_stand_in_for_too_few_holdout_clips(tmp_path: Path) -> None:
    bench = write(tmp_path, ["holdout"] * 3 + ["val"] * 5 + ["train"])
    assert set(probes._clips(bench.store, bench.files, 60, 0)["split"]) == {"val"}
    assert bench.probe("anatomy")["unchanged"].auc.value == 1.0


def test_no_more_clips_than_asked_for_and_the_order_of_files_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    assert len(probes._clips(bench.store, bench.files, 5, 0)) == 5
    backwards = Bench(bench.store, dict(reversed(bench.files.items())), tmp_path / "backwards")
    assert backwards.probe("text") == bench.probe("text")


def test_another_encoder_is_refused(bench: Bench) -> None:
    with pytest.raises(Mismatch, match="another VAE"):
        bench.probe("anatomy", encoder=PixelEncoder(fingerprint="other"))


@contextmanager
def no_decoding(patch: pytest.MonkeyPatch) -> Iterator[None]:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded again")

    with patch.context() as inside:
        inside.setattr(probes, "read_clip", never)
        yield


def test_the_stage_is_kept_while_nothing_changed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench.probe("anatomy")
    with no_decoding(monkeypatch):
        assert bench.probe("anatomy") == first
        with pytest.raises(AssertionError, match="decoded again"):
            bench.probe("anatomy", most_clips=8)


# What is hidden or swapped


def test_donors_are_two_clips_of_another_group_and_the_same_for_the_whole_group() -> None:
    groups = np.array_split(np.arange(17), 3)
    donors = probes._donors(groups)
    for group in groups:
        assert len({tuple(donors[member]) for member in group}) == 1
        assert not set(donors[group].ravel()) & set(group)
    assert len({tuple(pair) for pair in donors}) == 3


def test_the_sector_is_found_with_its_cavities_and_shadows_and_without_text_beside_it() -> None:
    full = np.full((2, 100, 100), 80, np.uint8)
    drawn = np.stack([fan(frame, top_share=0.0, half_angle_deg=35, depth_share=0.9) for frame in full])
    truth = drawn[0] > 0
    drawn[:, 50:60, 45:55] = 0
    drawn[:, 2:8, 2:20] = 255
    drawn[:, 40:60, 60:] = 0
    drawn = np.maximum(drawn, np.random.default_rng(0).integers(0, 9, drawn.shape).astype(np.uint8))
    for frames in (drawn, np.repeat(drawn[..., None], 3, axis=-1)):
        assert (sector_mask(frames) != truth).mean() < 0.02


def test_a_black_clip_has_no_sector_to_hide_behind() -> None:
    black = np.zeros((2, 8, 8), np.uint8)
    assert sector_mask(black).all()
    black[0, 3] = 255
    assert sector_mask(black).all()


@pytest.mark.parametrize("view", ["a4c", "ped_a4c", "psax"])
def test_every_sector_shows_the_inner_ellipse(view: Any) -> None:
    spec = CohortSpec(view=view, n_patients=12, n_frames=4, seed=2)
    for clip in clips(spec):
        hidden = inner_ellipse(112, 112) & ~sector_mask(render(spec, clip).frames)
        assert hidden.mean() < 0.005


def test_the_ellipse_has_the_asked_for_area() -> None:
    assert inner_ellipse(200, 100).mean() == pytest.approx(np.pi * 0.33 * 0.25, rel=0.01)


@pytest.mark.parametrize("colours", [(), (3,)])
def test_a_text_is_the_same_on_two_pictures_and_covers_what_was_there(colours: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 255, (2, SIZE, SIZE, *colours), dtype=np.uint8)
    mine, also, other = with_text(a, "ID 12345\n12:345"), with_text(b, "ID 12345\n12:345"), with_text(a, "ID 67890\n1")
    np.testing.assert_array_equal(mine[3:22, 3:40], also[3:22, 3:40])
    assert (mine[3:22, 3:40] > 200).any()
    assert not np.array_equal(mine, other)
    np.testing.assert_array_equal(mine[40:], a[40:])


@pytest.mark.parametrize("colours", [(), (3,)])
def test_a_border_is_the_others_and_the_middle_ones_own(colours: tuple[int, ...]) -> None:
    a, b = np.full((2, 100, 50, *colours), 1, np.uint8)
    mixed = with_border(a, 2 * b)
    assert (mixed[12:88, 6:44] == 1).all()
    mixed[12:88, 6:44] = 2
    assert (mixed == 2).all()
