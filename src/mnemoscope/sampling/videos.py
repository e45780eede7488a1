"""Videos: clips from a latent video diffusion model, of any length, with their ejection fractions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mnemoscope.core.errors import ConfigError
from mnemoscope.models.generator import GeneratorRecord
from mnemoscope.models.lidm import Lidm
from mnemoscope.models.lvdm import Condition, Lvdm
from mnemoscope.sampling.images import class_number, image_predictor
from mnemoscope.sampling.joint import Mixing, frame_by_frame, image_steps, joint_predictor, of_motion
from mnemoscope.sampling.samplers import LATENT_LIMIT, MOTION_LIMIT, Sampler, denoise, sample_generators
from mnemoscope.sampling.windows import Merge, cover, video_predictor


@dataclass(frozen=True, kw_only=True)
class VideoSampling:
    """How clips are sampled.

    Attributes:
        n_frames: frames of each clip; fewer than the model's window are cut from two joined windows.
        sampler: see :func:`~mnemoscope.sampling.samplers.make_scheduler`.
        steps: reverse steps.
        guidance: weight of the EF, see :func:`~mnemoscope.sampling.windows.video_predictor`.
        merge: how windows are joined, see :func:`~mnemoscope.sampling.windows.cover`.
        image_share: share of reverse steps that the image model takes (JVID); 0 is the video model alone.
        mixing: how these steps are chosen.
        class_name: a class of the model; None means *any*.
    """

    n_frames: int = 64
    sampler: Sampler = "dpm++"
    steps: int = 25
    guidance: float = 1.0
    merge: Merge = "blend"
    image_share: float = 0.0
    mixing: Mixing = "periodic"
    class_name: str | None = None


def sample_clips(
    network: Lvdm,
    record: GeneratorRecord,
    ids: Sequence[str],
    *,
    frames: np.ndarray,
    ef: np.ndarray,
    how: VideoSampling,
    seed: int,
    image_model: Lidm | None = None,
    image_class: int | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """Standardised latents of new clips, (B, T, C, h, w) float32; each depends on (seed, id, frame, EF) alone.

    Args:
        network: the LVDM.
        record: its record.
        ids: names of the B samples.
        frames: standardised latents of the frame that each clip shall show, (B, C, h, w).
        ef: ejection fractions in percent, (B,).
        how: length, sampler, steps.
        seed: of the set.
        image_model: the LIDM, where ``how.image_share`` is above 0.
        image_class: number of the class in the LIDM's own order; None means *any*.
        device: torch device.

    Raises:
        ConfigError: for a share of image steps without an image model, or a class the LVDM was not trained on.
    """
    window = int(record.window_frames or how.n_frames)
    length = how.n_frames if how.n_frames >= window else window + window // 2  # labels of less scatter more
    windows = cover(length, window, merge=how.merge)
    condition = _condition(record, frames, ef, how, device)
    predict = video_predictor(network, condition, windows, guidance=how.guidance)
    if how.image_share > 0:
        if image_model is None:
            raise ConfigError("a share of image steps needs an image model (--lidm)")
        chosen = image_steps(how.steps, how.image_share, mixing=how.mixing, seed=seed)
        image = frame_by_frame(image_predictor(image_model, image_class))
        if record.motion_std is not None:
            image = of_motion(image, condition.frame, record.motion_std)
        predict = joint_predictor(image, predict, chosen)
    x = denoise(
        predict,
        (length, *record.frame_shape),
        sampler=how.sampler,
        steps=how.steps,
        generators=sample_generators(seed, ids),
        limit=LATENT_LIMIT if record.motion_std is None else MOTION_LIMIT,
        device=device,
    )
    if record.motion_std is not None:
        x = condition.frame[:, None] + record.motion_std * x
    return np.asarray(x[:, : how.n_frames].cpu().numpy())


def _condition(
    record: GeneratorRecord, frames: np.ndarray, ef: np.ndarray, how: VideoSampling, device: str
) -> Condition:
    given = torch.ones(len(frames), dtype=torch.bool)
    return Condition(
        frame=torch.from_numpy(frames.astype(np.float32)),
        frame_given=given,
        ef=torch.from_numpy(ef.astype(np.float32)),
        ef_given=given,
        classes=torch.full((len(frames),), class_number(record, how.class_name)),
    ).to(device)
