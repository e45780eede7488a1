from collections.abc import Iterator
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from mnemoscope.models.lvdm import Condition, Lvdm
from mnemoscope.sampling.samplers import Predict
from mnemoscope.sampling.windows import Merge, Windows, cover, video_predictor
from tests.sampling.tiny_models import noise

MERGES: tuple[Merge, ...] = get_args(Merge)
SIZES = [*product(range(1, 26), range(1, 13)), (64, 16), (64, 64), (65, 64), (128, 64), (129, 64), (200, 64)]


def pieces(n_frames: int, window: int) -> Iterator[range]:
    """The windows one after the other, by hand."""
    length, start = min(window, n_frames), 0
    while start + length < n_frames:
        yield range(start, start + length)
        start += max(1, length // 2)
    yield range(n_frames - length, n_frames)


def shares(n_frames: int, window: int, merge: Merge) -> np.ndarray:
    """What each window contributes to each frame, frame by frame."""
    found = list(pieces(n_frames, window))
    weights = np.zeros((len(found), n_frames))
    for frame in range(n_frames):
        holders = [k for k, piece in enumerate(found) if frame in piece]
        if merge == "paper":
            weights[holders[0], frame] = 1
            continue
        depth = [min(frame - found[k].start, found[k].stop - 1 - frame) + 1 for k in holders]
        for k, value in zip(holders, depth, strict=True):
            weights[k, frame] = value / sum(depth)
    return weights


@pytest.mark.parametrize("merge", MERGES)
def test_every_clip_is_covered_as_by_hand(merge: Merge) -> None:
    for n_frames, window in SIZES:
        found, expected = cover(n_frames, window, merge=merge), list(pieces(n_frames, window))
        assert list(found.starts) == [piece.start for piece in expected]
        assert {len(piece) for piece in expected} == {found.length}
        np.testing.assert_allclose(found.weights, shares(n_frames, window, merge), atol=1e-12)


@pytest.mark.parametrize("merge", MERGES)
def test_windows_lie_inside_the_clip_and_weights_sum_to_one(merge: Merge) -> None:
    for n_frames, window in SIZES:
        found = cover(n_frames, window, merge=merge)
        inside = np.array([[s <= f < s + found.length for f in range(n_frames)] for s in found.starts])
        assert (found.starts[0], found.starts[-1] + found.length) == (0, n_frames)
        assert inside.any(axis=0).all()
        assert (found.weights[~inside] == 0).all()
        assert (found.weights >= 0).all()
        np.testing.assert_allclose(found.weights.sum(axis=0), 1, atol=1e-12)


def test_the_paper_takes_the_first_window_whole_and_what_is_new_of_later_ones() -> None:
    weights = cover(128, 64, merge="paper").weights
    assert [np.flatnonzero(row).tolist() for row in weights] == [
        list(range(64)),
        list(range(64, 96)),
        list(range(96, 128)),
    ]


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("n_frames", [1, 5, 64])
def test_a_clip_no_longer_than_the_window_is_one_window(n_frames: int, merge: Merge) -> None:
    found = cover(n_frames, 64, merge=merge)
    assert (found.starts, found.length) == ((0,), n_frames)
    np.testing.assert_array_equal(found.weights, np.ones((1, n_frames)))


class Fake(Lvdm):
    """Takes the network's place; ``value`` says what it returns, and the calls are counted."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.calls += 1
        return self.value(x, t, condition)

    def value(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        raise NotImplementedError


def over(x: Tensor, values: Tensor) -> Tensor:
    """``values`` (n,) all over the pieces (n, …)."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 1)).expand_as(x)


class ReturnsEf(Fake):
    def value(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return over(x, torch.where(condition.ef_given, condition.ef, -condition.ef))


class ReturnsInput(Fake):
    def value(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return x


class ReturnsNumber(Fake):
    """The number of each piece."""

    def value(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return over(x, torch.arange(len(x)))


class ChecksOwner(Fake):
    """Pieces whose every value is their clip's number must come with everything of that clip."""

    def value(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        for found in (t, condition.ef, condition.classes, condition.frame[:, 0, 0, 0]):
            assert torch.equal(over(x, found), x)
        assert condition.ef_given.tolist() == [number % 2 == 0 for number in t.tolist()]
        return x


def conditions(count: int) -> Condition:
    """Clip b has EF b, class b and a frame of b."""
    numbers = torch.arange(count)
    return Condition(
        frame=numbers[:, None, None, None].expand(-1, 1, 2, 2).float(),
        frame_given=torch.ones(count, dtype=torch.bool),
        ef=numbers.float(),
        ef_given=torch.ones(count, dtype=torch.bool),
        classes=numbers,
    )


def predicted(network: Fake, windows: Windows, *, clips: int = 8, guidance: float = 1.0) -> Tensor:
    x = noise(clips, windows.weights.shape[1], 1, 2, 2)
    return video_predictor(network, conditions(clips), windows, guidance=guidance)(x, torch.arange(clips), 0)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize(("clips", "n_frames"), [(8, 128), (1, 128), (3, 100), (5, 64), (2, 7)])
def test_every_frame_of_a_clip_carries_its_own_ef(clips: int, n_frames: int, merge: Merge) -> None:
    found = predicted(ReturnsEf(), cover(n_frames, 64, merge=merge), clips=clips)
    torch.testing.assert_close(found, over(found, torch.arange(clips)), atol=1e-5, rtol=0)


def released_layout(network: Lvdm, condition: Condition, windows: Windows) -> Predict:
    """The released code's fault: windows are stacked one after the other, labels are repeated sample by sample."""

    def predict(x: Tensor, t: Tensor, _: int) -> Tensor:
        stacked = torch.cat([x[:, s : s + windows.length] for s in windows.starts])  # window-major
        owner = torch.arange(len(x)).repeat_interleave(len(windows.starts))  # sample-major
        v = network(stacked, t[owner], condition.of(owner))
        return v.unflatten(0, (len(windows.starts), len(x)))  # (K, B, L, C, h, w)

    return predict


def test_the_released_layout_gives_4_of_24_windows_their_ef() -> None:
    """So the test above can fail."""
    windows = cover(128, 64)
    v = released_layout(ReturnsEf(), conditions(8), windows)(noise(8, 128, 1, 2, 2), torch.arange(8), 0)
    right = v[..., 0, 0, 0, 0] == torch.arange(8)
    assert (int(right.sum()), right.numel()) == (4, 24)


@pytest.mark.parametrize("merge", MERGES)
def test_a_piece_comes_with_everything_of_its_clip(merge: Merge) -> None:
    numbers, windows = torch.arange(5), cover(100, 32, merge=merge)
    condition = Condition(**{**conditions(5).__dict__, "ef_given": numbers % 2 == 0})
    x = over(torch.empty(5, 100, 1, 2, 2), numbers)
    torch.testing.assert_close(video_predictor(ChecksOwner(), condition, windows)(x, numbers, 0), x)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize(("n_frames", "window"), [(128, 64), (100, 33), (7, 1), (1, 4), (9, 2)])
def test_windows_that_agree_are_joined_to_what_they_agree_on(n_frames: int, window: int, merge: Merge) -> None:
    """Frames keep their places, and weights sum to 1."""
    windows = cover(n_frames, window, merge=merge)
    found = predicted(ReturnsInput(), windows, clips=2)
    torch.testing.assert_close(found, noise(2, n_frames, 1, 2, 2), atol=1e-6, rtol=1e-6)


def test_frames_are_weighted_means_of_their_windows() -> None:
    windows = cover(100, 32)
    found = predicted(ReturnsNumber(), windows, clips=3)[:, :, 0, 0, 0]
    k = len(windows.starts)
    expected = np.arange(3 * k).reshape(3, k) @ shares(100, 32, "blend")
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("guidance", "factor", "calls"), [(1.0, 1, 1), (0.0, -1, 2), (2.5, 4, 2), (-1.0, -3, 2)])
def test_guidance_goes_from_the_answer_without_ef_towards_that_with_it(
    guidance: float, factor: float, calls: int
) -> None:
    """The network answers EF with it and −EF without: −ef + g·(ef + ef)."""
    network = ReturnsEf()
    found = predicted(network, cover(100, 64), clips=3, guidance=guidance)
    torch.testing.assert_close(found, over(found, factor * torch.arange(3)), atol=1e-5, rtol=0)
    assert network.calls == calls
