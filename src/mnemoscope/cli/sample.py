"""``mnemoscope sample``: new images or videos from the generators."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import pandas as pd
from pydantic import Field

from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.config import Config
from mnemoscope.core.errors import ConfigError, InputError
from mnemoscope.core.files import value_fingerprint
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.latents.store import LatentStore, is_store
from mnemoscope.models.device import usable_device
from mnemoscope.models.generator import BUNDLED, GeneratorRecord, generator_fingerprint, generator_folder
from mnemoscope.models.lidm import Lidm, load_lidm
from mnemoscope.models.lvdm import load_lvdm
from mnemoscope.models.vae import load_vae
from mnemoscope.sampling.ejection import requested_ef
from mnemoscope.sampling.filter import FrameFilter, load_filter, passing_frames
from mnemoscope.sampling.folder import require_vae, sample_names, sample_to_store, write_clips
from mnemoscope.sampling.images import class_number, sample_frames
from mnemoscope.sampling.joint import Mixing
from mnemoscope.sampling.samplers import Sampler
from mnemoscope.sampling.videos import VideoSampling, sample_clips
from mnemoscope.sampling.windows import Merge


class ImagesConfig(Config):
    """Sampling of images.

    Attributes:
        lidm: the image model: bundled, or a folder.
        vae: that its latents are decoded with: bundled, a diffusers folder, or a hub name.
        count: how many.
        sampler: ddpm, ddim or dpm++ (fewest steps).
        steps: reverse steps.
        class_name: class of the model to sample; none samples any.
        even_classes: sample every class of the model equally often.
        filter: folder of a finished audit; images that it would flag are drawn again.
        latents_only: leave out the decoded images (one-frame videos).
        codec: mjpeg, or ffv1 (lossless).
        batch_size: samples at once; changes speed and memory only.
        seed: of the set; a sample depends on the seed and its id alone.
        device: torch device.
    """

    lidm: str = BUNDLED
    vae: str = "bundled"
    count: int = Field(16, ge=1)
    sampler: Sampler = "dpm++"
    steps: int = Field(25, ge=1, le=1000)
    class_name: str | None = None
    even_classes: bool = False
    filter: Path | None = None
    latents_only: bool = False
    codec: Literal["mjpeg", "ffv1"] = "ffv1"
    batch_size: int = Field(64, ge=1)
    seed: int = 0
    device: str = "cpu"


class VideosConfig(Config):
    """Sampling of videos.

    Attributes:
        lvdm: the video model: bundled, or a folder.
        lidm: the image model, which draws the frame that each clip shows; not used with frames_from.
        frames_from: latent store whose clips' first frames are shown instead of drawn ones, in the order of ids.
        vae: that the latents are decoded with: bundled, a diffusers folder, or a hub name.
        count: how many.
        frames: of each clip; longer clips than the model's window are made of overlapping windows.
        ef: uniform (10–90), uniform:LOW:HIGH, prior (as the train clips), or a file with a column EF.
        sampler: of the videos: ddpm, ddim or dpm++ (fewest steps).
        steps: reverse steps of the videos.
        frame_steps: reverse steps of the shown frames (dpm++).
        guidance: weight of the EF, 1 being the model itself; none takes the one in the model's record, and its
            correction of the EF.
        merge: how windows are joined: blend, or paper (the first whole, of later ones what is new).
        image_share: share of steps in which the image model predicts the clip's frames (JVID).
        mixing: how these steps are chosen.
        class_name: class of both models to sample; none samples any.
        even_classes: shown frames are of every class of the image model equally often.
        filter: folder of a finished audit; shown frames that it would flag are drawn again.
        latents_only: leave out the videos and FileList.csv.
        codec: mjpeg, or ffv1 (lossless).
        batch_size: samples at once; changes speed and memory only.
        seed: of the set; a sample depends on the seed and its id alone.
        device: torch device.
    """

    lvdm: str = BUNDLED
    lidm: str = BUNDLED
    frames_from: Path | None = None
    vae: str = "bundled"
    count: int = Field(16, ge=1)
    frames: int = Field(64, ge=1)
    ef: str = "uniform"
    sampler: Sampler = "dpm++"
    steps: int = Field(25, ge=1, le=1000)
    frame_steps: int = Field(25, ge=1, le=1000)
    guidance: float | None = None
    merge: Merge = "blend"
    image_share: float = Field(0.0, ge=0, le=1)
    mixing: Mixing = "periodic"
    class_name: str | None = None
    even_classes: bool = False
    filter: Path | None = None
    latents_only: bool = False
    codec: Literal["mjpeg", "ffv1"] = "mjpeg"
    batch_size: int = Field(8, ge=1)
    seed: int = 0
    device: str = "cpu"


# What changes neither latents nor videos.
_INDIFFERENT = {"batch_size", "device", "latents_only", "codec"}


@dataclass(frozen=True)
class Sampled:
    """A finished set: its latents and, where they were decoded, the folder of its clips."""

    latents: LatentStore
    clips: Path | None


def sample_images(*, out: Path | str, config: ImagesConfig | None = None, progress: Progress = unwatched) -> Sampled:
    """Samples images into ``out / "latents"`` and ``out / "clips"``; a call that was broken off is continued."""
    config = config or ImagesConfig()
    device = usable_device(config.device)
    network, record = load_lidm(config.lidm, device=device)
    class_number(record, config.class_name)  # refused before anything is written
    classes = _image_classes(record, config)
    judge = load_filter(config.filter, record, device=device) if config.filter else None
    draw = _frame_drawer(network, record, config, steps=config.steps, sampler=config.sampler)

    def block(names: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
        frames, attempts = passing_frames(draw, names, record, judge)
        rows = pd.DataFrame({"clip_id": names, "frame_attempts": attempts, "class_name": [classes[n] for n in names]})
        return _unscaled(record, frames)[:, None], rows.dropna(axis="columns", how="all")

    key = _frame_keys(config, judge)
    one_frame = GeneratorRecord(**{**record.__dict__, "fps": 1.0})
    return _sampled("sample images", Path(out), config, one_frame, block, key, progress)


def sample_videos(*, out: Path | str, config: VideosConfig | None = None, progress: Progress = unwatched) -> Sampled:
    """Samples videos into ``out / "latents"`` and ``out / "clips"``; a call that was broken off is continued."""
    config = config or VideosConfig()
    device = usable_device(config.device)
    network, record = load_lvdm(config.lvdm, device=device)
    class_number(record, config.class_name)  # refused before anything is written
    names = sample_names(config.count)
    ef = dict(zip(names, requested_ef(config.ef, names, record, seed=config.seed), strict=True))
    shown, keys = _shown_frames(config, record, names, device)
    image_model, image_class = None, None
    if config.image_share:
        image_model, image_record = _image_model(config, record, device)
        image_class = class_number(image_record, config.class_name)
        keys = [*keys, generator_fingerprint(generator_folder(config.lidm, "lidm"))]
    how = VideoSampling(
        n_frames=config.frames,
        sampler=config.sampler,
        steps=config.steps,
        guidance=record.guidance if config.guidance is None else config.guidance,
        merge=config.merge,
        image_share=config.image_share,
        mixing=config.mixing,
        class_name=config.class_name,
    )

    def block(some: Sequence[str]) -> tuple[np.ndarray, pd.DataFrame]:
        frames, attempts = shown(some)
        wanted = np.array([ef[name] for name in some])
        clips = sample_clips(
            network,
            record,
            some,
            frames=frames,
            ef=record.ef_to_tell(wanted, n_frames=config.frames) if config.guidance is None else wanted,
            how=how,
            seed=config.seed,
            image_model=image_model,
            image_class=image_class,
            device=device,
        )
        rows = pd.DataFrame({"clip_id": some, "ef": wanted, "frame_attempts": attempts} | _view(config))
        return _unscaled(record, clips), rows

    key = [generator_fingerprint(generator_folder(config.lvdm, "lvdm")), *keys, list(ef.values())]
    return _sampled("sample videos", Path(out), config, record, block, key, progress)


def _frame_drawer(
    network: Lidm, record: GeneratorRecord, config: ImagesConfig | VideosConfig, *, steps: int, sampler: Sampler
) -> Any:
    classes = _image_classes(record, config)

    def draw(ids: Sequence[str]) -> np.ndarray:
        return sample_frames(
            network,
            record,
            ids,
            seed=config.seed,
            sampler=sampler,
            steps=steps,
            class_names=[classes[attempt.split("/")[0]] for attempt in ids],
            device=config.device,
        )

    return draw


def _image_classes(record: GeneratorRecord, config: ImagesConfig | VideosConfig) -> dict[str, str | None]:
    """The image model's class for each sample of the set, by its id."""
    names = sample_names(config.count)
    if not config.even_classes:
        return dict.fromkeys(names, config.class_name)
    if config.class_name is not None or not record.classes:
        raise ConfigError(
            "--even-classes: expected an image model with classes and no --class-name beside it; train one "
            "(mnemoscope train lidm --set lidm.clusters=…)"
        )
    return {name: record.classes[number % len(record.classes)] for number, name in enumerate(names)}


def _view(config: VideosConfig) -> dict[str, str]:
    """The class as a column of the clip table; *any* is no class."""
    return {} if config.class_name is None else {"view": config.class_name}


def _frame_keys(config: ImagesConfig | VideosConfig, judge: FrameFilter | None) -> list[str]:
    """What decides drawn frames beside the settings."""
    return [generator_fingerprint(generator_folder(config.lidm, "lidm")), *([judge.fingerprint] if judge else [])]


def _image_model(config: VideosConfig, record: GeneratorRecord, device: str) -> tuple[Lidm, GeneratorRecord]:
    network, image_record = load_lidm(config.lidm, device=device)
    _require_same_latents(image_record, record, config)
    return network, image_record


def _shown_frames(config: VideosConfig, record: GeneratorRecord, names: list[str], device: str) -> tuple[Any, Any]:
    """Names → (frames, attempts); and what decides them, for the record."""
    if config.frames_from is None:
        network, image_record = _image_model(config, record, device)
        judge: FrameFilter | None = load_filter(config.filter, record, device=device) if config.filter else None
        draw = _frame_drawer(network, image_record, config, steps=config.frame_steps, sampler="dpm++")
        return (lambda some: passing_frames(draw, some, record, judge)), _frame_keys(config, judge)
    if config.filter is not None:
        raise ConfigError("--filter draws frames again and needs an image model; leave out --frames-from")
    if not is_store(config.frames_from):
        raise InputError(f"--frames-from {config.frames_from}: expected a latent store, found none (mnemoscope encode)")
    store = LatentStore(config.frames_from)
    record.require_store(store, what="the video model")
    if len(store.clips) < len(names):
        raise ConfigError(
            f"--frames-from {config.frames_from}: expected {len(names)} clips, one for each sample, found "
            f"{len(store.clips)}; lower --count"
        )
    first = {name: int(row["first_frame"]) for name, (_, row) in zip(names, store.clips.iterrows(), strict=False)}

    def shown(some: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        latents = store.frames(np.array([first[name] for name in some]))
        return record.scaling.apply(latents, "standard"), np.ones(len(some), dtype=np.int64)

    return shown, [store.fingerprint]


def _require_same_latents(image: GeneratorRecord, video: GeneratorRecord, config: VideosConfig) -> None:
    same = (image.encoder, image.frame_shape) == (video.encoder, video.frame_shape)
    if not (same and image.scaling.agrees(video.scaling)):
        raise ConfigError(
            f"--lidm {config.lidm} and --lvdm {config.lvdm}: expected models of the same latents, found other VAEs, "
            f"sizes or scaling constants; train both on one store"
        )


def _unscaled(record: GeneratorRecord, latents: np.ndarray) -> np.ndarray:
    return record.scaling.invert(latents, "standard").astype(np.float16)


def _sampled(
    command_name: str,
    out: Path,
    config: ImagesConfig | VideosConfig,
    record: GeneratorRecord,
    block: Any,
    key: list[Any],
    progress: Progress,
) -> Sampled:
    vae = load_vae(config.vae, device=config.device) if not config.latents_only else None
    if vae is not None:
        require_vae(vae, record)
    settings_of_samples = {k: v for k, v in config.model_dump(mode="json").items() if k not in _INDIFFERENT}
    run = Run(
        out,
        command=command_name,
        identity={"samples": value_fingerprint([settings_of_samples, key])},
        config=config.model_dump(mode="json"),
        seed=config.seed,
    )
    inputs = {"settings": settings_of_samples, "models": key}

    def make_latents(folder: Path) -> None:
        sample_to_store(
            sample_names(config.count),
            block,
            folder,
            record=record,
            source=value_fingerprint(inputs),
            batch_size=config.batch_size,
            progress=progress,
        )

    with run.recording():
        store = LatentStore(run.stage("latents", inputs, make_latents))
        if vae is None:
            return Sampled(store, None)
        decoder, codec = vae, config.codec

        def make_clips(folder: Path) -> None:
            write_clips(store, decoder, folder, codec=codec, progress=progress)

        clips = run.stage(
            "clips", {"latents": store.fingerprint, "vae": decoder.fingerprint, "codec": codec}, make_clips
        )
    return Sampled(store, clips)


@click.group()
def command() -> None:
    """Sample images or videos."""


_OUT = click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")


@command.command()
@_OUT
@settings(ImagesConfig)
def images(out: Path, asked: Asked[ImagesConfig]) -> None:
    """Sample single frames from a latent image diffusion model.

    \b
    Example: mnemoscope sample images --count 100 --out runs/images
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(config, {"out": out})
            return
        _say(sample_images(out=out, config=config, progress=progress), asked.as_json)


@command.command()
@_OUT
@settings(VideosConfig)
def videos(out: Path, asked: Asked[VideosConfig]) -> None:
    """Sample videos of requested ejection fractions, as an EchoNet folder and a latent store.

    \b
    Example: mnemoscope sample videos --count 100 --ef uniform:10:90 --out runs/synthetic
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(config, {"out": out})
            return
        _say(sample_videos(out=out, config=config, progress=progress), asked.as_json)


def _say(sampled: Sampled, as_json: bool) -> None:
    places = {"latents": sampled.latents.folder, "clips": sampled.clips}
    if as_json:
        show_json(places | {"count": len(sampled.latents.clips)})
    else:
        click.echo(f"{len(sampled.latents.clips)} samples: {sampled.clips or sampled.latents.folder}")
