"""Ladder: the named changes under which a copied clip should still be noticed, from none to severe.

A rung moves the frames that are shown, or changes their pixels. One draw holds for a whole clip: all its frames are
brightened, moved or turned alike; noise alone is drawn anew for each frame. A new rung is one line in ``LADDER``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

import mnemoscope.data.alter as alter
from mnemoscope.data.alter import Frame

Need = Literal["nothing", "encoder", "other"]


@dataclass(frozen=True)
class Beside:
    """What a change may need besides the clip.

    Attributes:
        round_trip: frames through an encoder and back.
        other: frames of another patient's clip, of the same size.
    """

    round_trip: Callable[[np.ndarray], np.ndarray] | None = None
    other: np.ndarray | None = None


ALONE = Beside()
Move = Callable[[float, np.random.Generator], int]
Change = Callable[[np.ndarray, np.random.Generator, Beside], np.ndarray]


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: as in ``audit.json``.
        move: by how many frames a clip is moved in time, given the distance between the gallery's frames; None shows
            the frames that are asked for.
        change: uint8 frames (T, H, W) or (T, H, W, 3) to such frames; None leaves the pixels.
        needs: which part of ``Beside`` the change takes.
    """

    name: str
    move: Move | None = None
    change: Change | None = None
    needs: Need = "nothing"

    def numbers(
        self, asked: np.ndarray, *, n_frames: int, stride_frames: float, rng: np.random.Generator
    ) -> np.ndarray:
        """The frame numbers shown in place of those asked for; beyond an end of the clip it goes on at the other."""
        return asked if self.move is None else (asked + self.move(stride_frames, rng)) % n_frames

    def changed(self, frames: np.ndarray, rng: np.random.Generator, beside: Beside = ALONE) -> np.ndarray:
        """The frames after the change."""
        return frames if self.change is None else self.change(frames, rng, beside)


def _each(draw: Callable[[np.random.Generator], Callable[[Frame], Frame]]) -> Change:
    """What is drawn once, done to every frame."""

    def change(frames: np.ndarray, rng: np.random.Generator, beside: Beside) -> np.ndarray:
        del beside
        one = draw(rng)
        return np.stack([one(frame) for frame in frames])

    return change


def _round_trip(frames: np.ndarray, rng: np.random.Generator, beside: Beside) -> np.ndarray:
    del rng
    assert beside.round_trip is not None
    return beside.round_trip(frames)


def _blended(frames: np.ndarray, rng: np.random.Generator, beside: Beside) -> np.ndarray:
    del rng
    assert beside.other is not None
    others = [beside.other[i % len(beside.other)] for i in range(len(frames))]
    return np.stack([alter.blend(frame, other, _BLEND) for frame, other in zip(frames, others, strict=True)])


def _shifted(rng: np.random.Generator, by_px: float) -> Callable[[Frame], Frame]:
    angle = rng.uniform(0, 2 * np.pi)
    return partial(alter.move, right_px=by_px * np.cos(angle), down_px=by_px * np.sin(angle))


def _sign(rng: np.random.Generator) -> int:
    return int(rng.choice((-1, 1)))


_BLEND = 0.3

# Strengths are those for 112×112 pixels, the size at which the paper audits.
LADDER = (
    Rung("exact"),
    Rung("neighbouring_frame", move=lambda stride, rng: 1),
    Rung("other_frame", move=lambda stride, rng: int(stride / 2)),
    Rung("vae_round_trip", change=_round_trip, needs="encoder"),
    Rung("time_shift", move=lambda stride, rng: int(stride / 4) * _sign(rng)),
    Rung("gain", change=_each(lambda rng: partial(alter.gain, factor=1 + 0.2 * _sign(rng)))),
    Rung("gamma", change=_each(lambda rng: partial(alter.gamma, exponent=float(rng.choice((0.8, 1.25)))))),
    Rung("speckle", change=_each(lambda rng: partial(alter.speckle, std=0.2, rng=rng))),
    Rung("noise", change=_each(lambda rng: partial(alter.noise, std=6.0, rng=rng))),
    Rung("blur", change=_each(lambda rng: partial(alter.blur, sigma_px=1.0))),
    Rung("jpeg", change=_each(lambda rng: partial(alter.jpeg, quality=30))),
    Rung("rescale", change=_each(lambda rng: partial(alter.rescale, share=0.5))),
    Rung("zoom", change=_each(lambda rng: partial(alter.move, zoom=0.95))),
    Rung("shift", change=_each(lambda rng: _shifted(rng, 4.0))),
    Rung("rotation", change=_each(lambda rng: partial(alter.move, rotation_deg=10.0 * _sign(rng)))),
    Rung("flip", change=_each(lambda rng: alter.flip)),
    Rung("blend", change=_blended, needs="other"),
    Rung(
        "sector_mask",
        change=_each(
            lambda rng: partial(
                alter.fan,
                top_share=rng.uniform(-0.05, 0.02),
                half_angle_deg=rng.uniform(28, 36),
                depth_share=rng.uniform(0.85, 1.0),
            )
        ),
    ),
    Rung("border", change=_each(lambda rng: partial(alter.border, share=0.1))),
)
RUNGS = {rung.name: rung for rung in LADDER}
