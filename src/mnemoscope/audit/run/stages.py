"""Stages between the clips and the numbers: encode, train, features, neighbours. Each is kept and reused."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from mnemoscope.audit.matching import Matches, best_frame_pairs
from mnemoscope.audit.novelty import novelty, real_frames
from mnemoscope.audit.run.settings import AuditConfig, frame_limit
from mnemoscope.audit.run.together import Watched, successive
from mnemoscope.core.config import build, merged
from mnemoscope.core.errors import CorruptFile, InputError, Mismatch, TooFewSamples
from mnemoscope.core.files import folder_fingerprint, whole_file
from mnemoscope.core.progress import Progress
from mnemoscope.core.provenance import Run
from mnemoscope.data.alter import alteration
from mnemoscope.data.manifest import Manifest
from mnemoscope.latents.encode import FrameEncoder, PixelEncoder, encode_set
from mnemoscope.latents.features import FrameFeatures, Measure, extract_features, looks, strided_frames
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.reid import ReidModel, load_reid
from mnemoscope.models.vae import load_vae
from mnemoscope.search import Head, nearest
from mnemoscope.training.reid import PRESETS, ReidTraining, train_reid

VERIFICATION_FRAMES = 4
NOVELTY_FRAMES = 4000


def make_encoder(config: AuditConfig) -> FrameEncoder:
    """The VAE, or the pixels themselves."""
    if config.space == "image":
        if config.frames.color != "gray":
            raise InputError("the image space compares gray frames; set --set frames.color=gray")
        return PixelEncoder()
    return load_vae(config.vae, device=config.device, precision=config.precision)


def encoded(
    run: Run,
    name: str,
    manifest: Manifest,
    source: str,
    *,
    encoder: FrameEncoder,
    scaling: Scaling | None,
    config: AuditConfig,
    progress: Progress,
    altered_frames: int = 0,
) -> LatentStore:
    """The store of one set, or of so many altered frames of each of its clips; an interrupted encode is continued."""

    def make(folder: Path) -> None:
        encode_set(
            manifest,
            folder,
            encoder=encoder,
            transform=config.frames,
            source=source,
            scaling=scaling,
            max_frames=config.max_frames,
            alter=alteration(altered_frames, seed=config.seed) if altered_frames else None,
            progress=progress,
            stage=f"encode {name}",
        )

    inputs = {
        "source": source,
        "clips": manifest.clips["clip_id"].tolist(),
        "splits": manifest.clips["split"].tolist(),
        "encoder": encoder.fingerprint,
        "frames": asdict(config.frames),
        "max_frames": config.max_frames,
        "precision": config.precision,
        "scaling": scaling.to_json() if scaling else None,
        "altered": [altered_frames, config.seed if altered_frames else None],
    }
    return LatentStore(run.stage(f"latents-{name}", inputs, make))


def rate_beside(real: LatentStore, synthetic: LatentStore) -> float | None:
    """Frames per second that a synthetic store counts as beside a real one (None: each clip's own).

    Clips that were made at the rate of the real ones need not have been brought to it; single frames have no rate.
    """
    wanted, found = real.record.target_fps, synthetic.record.target_fps
    moving = synthetic.clips.loc[synthetic.clips["n_frames"] > 1, "fps"].astype(float)
    return wanted if found is None and (moving == wanted).all() else found


def require_alike(real: LatentStore, encoder: str, size: tuple[int, int, float | None]) -> None:
    """Refuses to compare frames of other size, rate or encoder than those of the real clips.

    Args:
        real: the real clips.
        encoder: fingerprint of what encodes, or encoded, the synthetic ones.
        size: their height and width in pixels, and frames per second (None: each clip's own).

    Raises:
        Mismatch: naming both.
    """
    if real.record.encoder != encoder:
        raise Mismatch(
            f"{real.folder}: the real clips were encoded by another VAE ({real.record.encoder}) than the synthetic "
            f"ones ({encoder}); encode both with one (--vae, --space)"
        )
    mine = (real.record.height, real.record.width, real.record.target_fps)
    if mine != size:
        raise Mismatch(
            f"{real.folder}: the real clips have (height, width, frames per second) {mine}, the synthetic ones {size}; "
            f"bring both to one (--set frames.height=… --set frames.width=… --set frames.target_fps=…)"
        )


def training_recipe(config: AuditConfig, *, channels: int) -> ReidTraining:
    """The preset's recipe with the changes of ``config.reid``.

    Raises:
        ConfigError: naming unknown keys.
    """
    preset = PRESETS[config.preset](space=config.space, channels=channels)
    return build(ReidTraining, merged(preset.model_dump(), config.reid), prefix="reid.")


def trained(
    run: Run, store: LatentStore, altered: LatentStore | None, *, config: AuditConfig, progress: Progress
) -> tuple[ReidModel, str]:
    """The re-identification model and its fingerprint: the given one, or one trained on the store (and, where there

    is one, on the store of altered frames).
    """
    if config.reid_model is not None:
        model = load_reid(config.reid_model, device=config.device)
        model.require_store(store)
        return model, folder_fingerprint(config.reid_model)
    recipe = training_recipe(config, channels=store.frame_shape[0])

    def make(folder: Path) -> None:
        train_reid(store, recipe, folder, altered=altered, seed=config.seed, device=config.device, progress=progress)

    stores = [part.fingerprint for part in (store, altered) if part is not None]
    inputs = {"stores": stores, "recipe": recipe.model_dump(mode="json"), "seed": config.seed}
    folder = run.stage("reid", inputs, make) / "model"
    return load_reid(folder, device=config.device), folder_fingerprint(folder)


@dataclass(frozen=True)
class SetFeatures:
    """Features of the frames that an audit compares.

    ``verification`` are several frames of each holdout clip; ``watched_real`` and ``watched_synthetic`` successive
    frames of some clips (None where clips are too short).
    """

    train: FrameFeatures
    holdout: FrameFeatures
    synthetic: FrameFeatures
    verification: FrameFeatures
    watched_real: FrameFeatures | None = None
    watched_synthetic: FrameFeatures | None = None


def features(
    run: Run,
    real: LatentStore,
    synthetic: LatentStore,
    model: ReidModel,
    model_key: str,
    *,
    watched: Watched | None,
    config: AuditConfig,
) -> SetFeatures:
    """Features of all sets, with strided frames, and of the clips that are watched over time."""
    train, query = frame_limit(config.train_frames), frame_limit(config.query_frames)
    rows = {split: real.of_split(split) for split in ("train", "holdout")}
    wanted: dict[str, tuple[LatentStore, pd.DataFrame, int | None]] = {
        "train": (real, rows["train"], train),
        "holdout": (real, rows["holdout"], query),
        "synthetic": (synthetic, synthetic.of_split("synthetic"), query),
        "verification": (real, rows["holdout"], VERIFICATION_FRAMES),
    }

    def made() -> Iterator[tuple[str, FrameFeatures]]:
        measure = novelty_measure(real)
        for name, (store, clips, count) in wanted.items():
            yield name, extract_features(store, clips, model.embed, frames_per_clip=count, measure=measure)
        if watched is not None:
            for name, store, clips in (("real", real, watched.real), ("synthetic", synthetic, watched.synthetic)):
                yield f"watched_{name}", successive(store, clips, watched.frames, model.embed)

    def make(folder: Path) -> None:
        for name, part in made():
            with whole_file(folder / f"{name}.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, **{name: value for name, value in vars(part).items() if value is not None})

    inputs = {
        "model": model_key,
        "stores": [real.fingerprint, synthetic.fingerprint],
        "frames": [train, query],
        "novelty": NOVELTY_FRAMES,
        "watched": None if watched is None else [watched.frames, *watched.clip_ids()],
    }
    return load_features(run.stage("features", inputs, make))


def novelty_measure(real: LatentStore) -> Measure | None:
    """How little frames look like those of train, by up to ``NOVELTY_FRAMES`` of these; None if there are too few."""
    first, count = (real.of_split("train")[name].to_numpy() for name in ("first_frame", "n_frames"))
    numbers = np.concatenate([f + strided_frames(int(n), 4) for f, n in zip(first, count, strict=True)])
    chosen = numbers[np.unique(np.linspace(0, len(numbers) - 1, NOVELTY_FRAMES).round().astype(int))]
    try:
        space = real_frames(looks(real.frames(chosen), real.record.scaling))
    except TooFewSamples:
        return None
    return partial(novelty, real=space)


def load_features(folder: Path) -> SetFeatures:
    """The features that an audit kept."""
    return SetFeatures(**{file.stem: _load_features(file) for file in sorted(folder.glob("*.npz"))})


def _load_features(path: Path) -> FrameFeatures:
    try:
        # Opened here, because NumPy leaves a file open that turns out to be damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return FrameFeatures(**{name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise CorruptFile(f"{path}: damaged ({error}); delete {path.parent} and run the same command again") from error


def matches(query: FrameFeatures, gallery: FrameFeatures, head: Head, *, device: str) -> Matches:
    """The nearest gallery clip of each query clip, by its best frame pair."""
    found = nearest(query.values, gallery.values, head, device=device)
    return best_frame_pairs(
        found.similarity[:, 0],
        found.index[:, 0],
        query_clip=query.clip,
        query_frame=query.frame,
        gallery_clip=gallery.clip,
        gallery_frame=gallery.frame,
    )
