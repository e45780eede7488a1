import numpy as np
import pytest
import torch

from mnemoscope.data.examine import ClipFacts, examine
from mnemoscope.data.video import content_fingerprint, write_video


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_a_good_clip(tmp_path, write_clip):
    write_clip(tmp_path / "a.avi", n_frames=8)
    assert examine(tmp_path / "a.avi") == ClipFacts(
        n_frames=8, height=24, width=32, fps=25.0, fingerprint=content_fingerprint(tmp_path / "a.avi")
    )


def test_a_good_clip_in_each_container(any_container):
    facts = examine(any_container)
    assert (facts.n_frames, facts.error, facts.cut_short, facts.n_damaged) == (40, "", "", 0)
    assert not facts.frozen
    assert not facts.flat


def test_an_absent_file(tmp_path):
    assert examine(tmp_path / "a.avi") == ClipFacts(present=False)


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_a_file_with_nothing_left(any_container, share):
    facts = examine(cut(any_container, share))
    assert facts.error or facts.cut_short or facts.n_damaged


def test_a_cut_file_is_noticed(any_container):
    facts = examine(cut(any_container, 0.6))
    noticed = facts.error or facts.cut_short or facts.n_damaged
    # A program stream has neither a length nor an end mark: a cut between two frames leaves no trace.
    assert noticed or any_container.suffix == ".mpeg"
    assert facts.n_frames < 40


def test_a_gif_without_its_end_mark(any_container):
    if any_container.suffix == ".gif":
        any_container.write_bytes(any_container.read_bytes()[:-1])
        assert "end mark" in examine(any_container).cut_short
    else:
        assert examine(any_container).cut_short == ""


def test_any_damage_gives_facts_and_never_an_exception(any_container):
    original = any_container.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(12):
        data = bytearray(original)
        for i in rng.integers(0, len(data), rng.integers(1, 60)):
            data[i] = rng.integers(256)
        any_container.write_bytes(data[: int(len(data) * rng.uniform(0.1, 1))])
        assert isinstance(examine(any_container), ClipFacts)


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".gif", ".mpeg", ".webm", ".mkv", ".dcm", ".pt", ""])
def test_garbage_is_an_error(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(np.random.default_rng(1).bytes(4000))
    facts = examine(path)
    assert facts.error
    assert facts.fingerprint is None


@pytest.mark.parametrize("value", [0, 90, 255])
def test_one_value_is_flat(tmp_path, value):
    write_video(tmp_path / "a.avi", np.full((3, 16, 16), value, np.uint8), fps=25)
    assert examine(tmp_path / "a.avi").flat


def test_a_still_picture_is_frozen_even_through_a_lossy_codec(tmp_path, make_clip):
    still = np.repeat(make_clip(1, 32, 32), 6, axis=0)
    write_video(tmp_path / "a.avi", still, fps=25)
    write_video(tmp_path / "b.mp4", still, fps=25, codec="h264", quality=10)
    for name in ("a.avi", "b.mp4"):
        facts = examine(tmp_path / name)
        assert facts.frozen
        assert not facts.flat


@pytest.mark.parametrize(("flicker", "frozen"), [(2, True), (3, False)])
def test_a_level_or_two_of_coding_noise_is_not_motion(tmp_path, make_clip, flicker, frozen):
    frames = np.repeat(make_clip(1), 6, axis=0)
    frames[1::2] += flicker
    write_video(tmp_path / "a.mkv", frames, fps=25, codec="ffv1")
    assert examine(tmp_path / "a.mkv").frozen == frozen


def test_one_moving_pixel_is_not_frozen(tmp_path, make_clip):
    frames = np.repeat(make_clip(1), 6, axis=0)
    frames[5, 0, 0] ^= 64
    write_video(tmp_path / "a.mkv", frames, fps=25, codec="ffv1")
    assert not examine(tmp_path / "a.mkv").frozen


def test_a_single_frame_is_not_frozen(tmp_path, write_clip):
    write_clip(tmp_path / "a.mkv", n_frames=1)
    assert not examine(tmp_path / "a.mkv").frozen


def test_latents(tmp_path):
    latent = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.save(latent, tmp_path / "a.pt")
    torch.save(latent.half().float(), tmp_path / "b.pt")
    good, other = examine(tmp_path / "a.pt"), examine(tmp_path / "b.pt")
    assert (good.n_frames, good.height, good.width) == (3, 5, 6)
    assert (good.nan, good.flat, good.frozen) == (False, False, False)
    assert good.fingerprint != other.fingerprint
    latent[1, 2, 3, 4] = float("nan")
    torch.save(latent, tmp_path / "a.pt")
    assert examine(tmp_path / "a.pt").nan
    torch.save(torch.zeros(3, 4, 5, 6), tmp_path / "a.pt")
    assert examine(tmp_path / "a.pt").flat
    torch.save(latent[:1].repeat(3, 1, 1, 1), tmp_path / "a.pt")
    assert examine(tmp_path / "a.pt").frozen
