from pathlib import Path

import numpy as np
import pytest

from mnemoscope.audit.matching import Matches
from mnemoscope.audit.run import confirm
from mnemoscope.core.errors import TooFewSamples
from mnemoscope.core.provenance import Run
from mnemoscope.data.transform import FrameTransform
from mnemoscope.data.writing import write_video

FRAMES = FrameTransform(height=48, width=48)


def matches(p_max: list[float], nearest: list[int], query_frame: list[int], gallery_frame: list[int]) -> Matches:
    return Matches(np.array(p_max), np.array(nearest), np.array(query_frame), np.array(gallery_frame))


def test_the_most_similar_come_in_the_order_of_their_numbers() -> None:
    found = matches([1.0, 5.0, 3.0, 5.0, 2.0], [0] * 5, [0] * 5, [0] * 5)
    assert confirm.most_similar(found, count=3).tolist() == [1, 2, 3]
    assert confirm.most_similar(found, count=9).tolist() == [0, 1, 2, 3, 4]


def scene(seed: int) -> np.ndarray:
    """Two frames of blobs."""
    blobs = np.random.default_rng(seed).integers(0, 256, (2, 12, 12))
    return np.kron(blobs, np.ones((1, 4, 4))).astype(np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    shown = {"a": scene(0), "b": scene(1), "copy": scene(0)[::-1], "other": scene(2), "black": scene(0) * 0}
    for name, frames in shown.items():
        write_video(tmp_path / f"{name}.avi", frames, fps=10.0, codec="ffv1")
    return {name: tmp_path / f"{name}.avi" for name in shown}


def similarity(run: Run, files: dict[str, Path], found: Matches, *, queries: list[str]) -> np.ndarray:
    return confirm.pair_similarity(
        run,
        "synthetic",
        np.array(queries),
        files,
        found,
        np.array(["a", "b"]),
        files,
        chosen=np.arange(len(queries)),
        frames=FRAMES,
    )


def test_the_frames_of_the_best_pair_are_compared_and_black_ones_are_not(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    run = Run(tmp_path / "run", command="test", identity={}, config={}, seed=0)
    found = matches([3.0, 2.0, 1.0], [0, 1, 0], [1, 0, 0], [0, 0, 0])
    ssim = similarity(run, files, found, queries=["copy", "other", "black"])
    assert ssim[0] == pytest.approx(1.0)
    assert ssim[1] < 0.6
    assert np.isnan(ssim[2])
    np.testing.assert_array_equal(similarity(run, files, found, queries=["copy", "other", "black"]), ssim)
    assert run.stages["evidence-synthetic"]["reused"]


def test_latents_have_no_pictures_to_compare(tmp_path: Path, files: dict[str, Path]) -> None:
    run = Run(tmp_path / "run", command="test", identity={}, config={}, seed=0)
    found = matches([3.0], [0], [0], [0])
    with pytest.raises(TooFewSamples, match="only latents"):
        similarity(run, files | {"copy": tmp_path / "copy.pt"}, found, queries=["copy"])


def test_pairs_without_a_picture_are_no_evidence() -> None:
    innocents = np.append(np.linspace(0, 0.5, 40), np.nan)
    found = confirm.second_look(np.array([0.9, np.nan, 0.2]), innocents, np.array([True, True, True]))
    assert (found.candidates, found.confirmed, found.doubted) == (2, 1, 1)
