"""Reproduce: the paper's experiment of section 4.1, from clips of three sets to how well each model does on each.

Every frame, be it anchor, positive or negative, of whatever set, is scaled by the constants of the model's own train
set. In the published code anchors and positives were scaled clip by clip and negatives not at all.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

import mnemoscope.audit.run.sources as sources
import mnemoscope.audit.run.stages as stages
from mnemoscope.audit.consistency import clip_correlations
from mnemoscope.audit.run.absent import Absent
from mnemoscope.audit.run.paper import SETS
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.audit.run.verify import verification
from mnemoscope.core.config import Config, build, merged
from mnemoscope.core.errors import CorruptFile, InputError, TooFewSamples
from mnemoscope.core.files import folder_fingerprint, read_json, write_json
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run, input_folder
from mnemoscope.core.types import Verification
from mnemoscope.data.layouts import read_layout
from mnemoscope.data.manifest import Manifest
from mnemoscope.data.transform import FrameTransform
from mnemoscope.latents.encode import source_fingerprint
from mnemoscope.latents.features import extract_features
from mnemoscope.latents.store import LatentStore, Space
from mnemoscope.models.device import usable_device
from mnemoscope.models.reid import ReidModel, load_reid
from mnemoscope.phantom.anatomy import View
from mnemoscope.phantom.cohort import CohortSpec, write_cohort
from mnemoscope.training.reid import ReidTraining, train_reid

FPS = 16.0
SHORT_EPOCHS = 15
VAL_SHARE, HOLDOUT_SHARE = 0.15, 0.25
RESULT = "tested.json"

# Seconds on two cores: drawing a frame, encoding one, and training on a pair, with the checks and tests of each.
_DRAWN_S = 1 / 500
ENCODED_S: dict[Space, float] = {"latent": 1 / 500, "image": 1 / 5000}
_PAIR_S: dict[tuple[str, Space], float] = {
    ("default", "latent"): 5e-4,
    ("default", "image"): 4e-3,
    ("paper", "latent"): 4.9e-3,
    ("paper", "image"): 0.114,
}


@dataclass(frozen=True)
class _Place:
    """Where a set comes from: its phantom's view and layout, its folder below EchoNet-Pediatric's, and that layout."""

    view: View
    phantom_layout: Literal["dynamic", "pediatric"]
    layout: str
    below: str


_PLACES = {
    "dynamic": _Place("a4c", "dynamic", "echonet-dynamic", ""),
    "a4c": _Place("ped_a4c", "pediatric", "echonet-pediatric", "A4C"),
    "psax": _Place("psax", "pediatric", "echonet-pediatric", "PSAX"),
}


class ReproduceConfig(Config):
    """How the paper's tables and figures are made again.

    Attributes:
        preset: default (compact networks, 15 epochs), or paper (ResNet-50 and R(2+1)D-18, for a GPU).
        spaces: which to compare.
        patients: of each phantom cohort.
        clips_per_patient: recordings of each phantom patient; with 1, every model tells all patients apart.
        phantom_frames: of each phantom clip, at 16 a second.
        vae: bundled, a diffusers folder, or a hub name.
        precision: of the VAE; auto is bf16 on a GPU that has it, else fp32.
        frames: size and rate of the frames.
        max_frames: frames kept of each clip; null keeps all.
        drop_bad_clips: leave out clips with errors instead of refusing the run.
        reid: changes to the training recipe of every model, such as reid.loop.epochs=30.
        audit: changes to the audits of synthetic sets, such as audit.percentile=99.
        downstream: changes to the downstream tests, such as downstream.seeds=1 or downstream.ef.loop.epochs=5.
        workers: processes that draw phantoms.
        seed: of phantoms, pairs, weights and resampling.
        device: torch device.
    """

    preset: Literal["default", "paper"] = "default"
    spaces: Literal["latent,image", "latent", "image"] = "latent,image"
    patients: int = Field(240, ge=4)
    clips_per_patient: int = Field(2, ge=1)
    phantom_frames: int = Field(16, ge=2)
    vae: str = "bundled"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    frames: FrameTransform = FrameTransform()
    max_frames: int | None = Field(None, ge=2)
    drop_bad_clips: bool = False
    reid: dict[str, Any] = Field(default_factory=dict)
    audit: dict[str, Any] = Field(default_factory=dict)
    downstream: dict[str, Any] = Field(default_factory=dict)
    workers: int = Field(2, ge=1)
    seed: int = 0
    device: str = "cpu"

    def chosen(self) -> list[Space]:
        """The spaces, in the order of the paper's tables."""
        spaces: tuple[Space, ...] = ("image", "latent")
        return [space for space in spaces if space in self.spaces.split(",")]

    def of_space(self, space: Space) -> AuditConfig:
        """The same as settings of an audit. Training begins with random weights, as it tells what a set teaches."""
        short = {"loop": {"epochs": SHORT_EPOCHS}} if self.preset == "default" else {}
        return AuditConfig(
            preset=self.preset,
            space=space,
            vae=self.vae,
            precision=self.precision,
            frames=self.frames,
            max_frames=self.max_frames,
            drop_bad_clips=self.drop_bad_clips,
            reid=merged({"initial": "random"} | short, self.reid),
            seed=self.seed,
            device=self.device,
        )

    def of_audit(self, name: str, model: Path) -> AuditConfig:
        """How the synthetic clips of a set are audited: in the latent space if it is among the chosen, by its model.

        Raises:
            ConfigError: naming unknown keys.
        """
        own = self.of_space(self.chosen()[-1]).model_dump(exclude_unset=True)
        fixed = {"reid_model": model, "real_layout": _PLACES[name].layout}
        return build(AuditConfig, merged(own, self.audit) | fixed, prefix="audit.")

    def cohort(self, name: str) -> CohortSpec:
        """The phantom that stands for a set."""
        return CohortSpec(
            view=_PLACES[name].view,
            n_patients=self.patients,
            clips_per_patient=self.clips_per_patient,
            n_frames=self.phantom_frames,
            fps=FPS,
            seed=self.seed,
            val_share=VAL_SHARE,
            holdout_share=HOLDOUT_SHARE,
        )

    def recipe(self, space: Space) -> ReidTraining:
        """The resolved recipe of a space.

        Raises:
            ConfigError: naming unknown keys.
        """
        return stages.training_recipe(self.of_space(space), channels=4 if space == "latent" else 1)


@dataclass(frozen=True)
class Measured:
    """A model of one train set on the holdout of one set.

    Attributes:
        space: ``latent`` or ``image``.
        train: the set it was trained on.
        test: the set whose holdout it was tested on.
        clips: number of holdout clips.
        verification: how well it tells patients apart.
        mcc_mean: mean over clips of the correlation between different frames of a clip.
        mcc_std: its standard deviation over clips.
        training_s: what the training took; of a resumed one, its last part.
        absent: why a head has no AUC.
    """

    space: str
    train: str
    test: str
    clips: int
    verification: Verification
    mcc_mean: float
    mcc_std: float
    training_s: float
    absent: Absent = field(default_factory=dict)


def trained_and_tested(
    run: Run,
    *,
    dynamic: Path | None = None,
    pediatric: Path | None = None,
    config: ReproduceConfig,
    progress: Progress = unwatched,
) -> list[Measured]:
    """Trains a model on each set in each space and tests it on the holdout of all three.

    Args:
        run: the run's folder; finished stages in it are reused.
        dynamic: EchoNet-Dynamic; None draws a phantom cohort in its place.
        pediatric: EchoNet-Pediatric with ``A4C`` and ``PSAX``; None draws two.
        config: settings.
        progress: told how far the stages are.

    Returns:
        By space, train set and test set.

    Raises:
        InputError: if a folder is not readable, or lacks a split.
    """
    usable_device(config.device)
    for space in config.chosen():
        config.recipe(space)  # misspelt settings are named before anything is drawn
    folders = {"dynamic": dynamic, "a4c": pediatric, "psax": pediatric}
    clips = {name: _clips(run, name, folder, config, progress) for name, folder in folders.items()}
    return [tested for space in config.chosen() for tested in _of_space(run, space, clips, config, progress)]


def real_folder(out: Path, name: str, *, dynamic: Path | None, pediatric: Path | None) -> Path:
    """Where the clips of a set lie: in a given folder, or as a phantom in the run's."""
    given = dynamic if name == "dynamic" else pediatric
    return (given or out / f"clips-{name}" / "clips") / _PLACES[name].below


def expected_s(
    config: ReproduceConfig, *, dynamic: Path | None = None, pediatric: Path | None = None
) -> dict[str, float]:
    """About how many seconds the parts take on two cores, if no training ends early.

    Given folders are listed and not decoded.
    """
    kinds = ("encoding", "training")
    parts = {"phantoms": 0.0} | {f"{part}, {space} space": 0.0 for space in config.chosen() for part in kinds}
    for name, folder in {"dynamic": dynamic, "a4c": pediatric, "psax": pediatric}.items():
        n_train, n_frames = expected_size(config, name, folder)
        if folder is None:
            parts["phantoms"] += n_frames * _DRAWN_S
        for space in config.chosen():
            recipe = config.recipe(space)
            pairs = recipe.loop.epochs * n_train * max(1, math.ceil(recipe.least_pairs / max(n_train, 1)))
            parts[f"encoding, {space} space"] += n_frames * ENCODED_S[space]
            parts[f"training, {space} space"] += pairs * _PAIR_S[config.preset, space]
    return parts


def expected_size(config: ReproduceConfig, name: str, folder: Path | None) -> tuple[float, float]:
    """Train clips of a set, and frames of all its clips."""
    if folder is None:
        spec = config.cohort(name)
        n_clips = spec.n_patients * spec.clips_per_patient
        return n_clips * (1 - VAL_SHARE - HOLDOUT_SHARE), float(n_clips * spec.n_frames)
    table = _listed(name, folder).clips
    return float((table["split"] == "train").sum()), n_frames_of(table, config.max_frames)


def n_frames_of(clips: pd.DataFrame, most: int | None) -> float:
    """Frames of all clips, ``most`` of each."""
    return float(clips["n_frames"].astype(float).clip(upper=most).sum())


def _listed(name: str, folder: Path) -> Manifest:
    """The clips of a set in an EchoNet folder (EchoNet-Pediatric's own, or the one that holds the view)."""
    place = _PLACES[name]
    flag = "--pediatric" if place.below else "--dynamic"
    manifest = read_layout(input_folder(folder / place.below, flag=flag), layout=place.layout)
    missing = {"train", "val", "holdout"} - set(manifest.clips["split"])
    if missing:
        raise InputError(
            f"{flag} {manifest.root}: expected train, val and holdout clips, found no {', '.join(sorted(missing))}; "
            f"give the splits in FileList.csv"
        )
    return manifest


@dataclass(frozen=True)
class _Clips:
    manifest: Manifest
    source: str


def _clips(run: Run, name: str, folder: Path | None, config: ReproduceConfig, progress: Progress) -> _Clips:
    """The checked clips of a set, drawn where no folder was given."""
    spec, place = config.cohort(name), _PLACES[name]

    def draw(stage: Path) -> None:
        progress("draw phantoms", SETS.index(name), len(SETS), "cohort")
        write_cohort(spec, stage / "clips", workers=config.workers, layout=place.phantom_layout)

    given = folder or run.stage(f"clips-{name}", asdict(spec), draw) / "clips"
    listed = _listed(name, given)
    source = source_fingerprint(listed)
    settings = config.of_space("latent")
    return _Clips(sources.checked(run, name, listed, source, config=settings, progress=progress), source)


def _of_space(
    run: Run, space: Space, clips: dict[str, _Clips], config: ReproduceConfig, progress: Progress
) -> Iterator[Measured]:
    settings = config.of_space(space)
    encoder = stages.make_encoder(settings)
    stores = {
        name: stages.encoded(
            run,
            f"{name}-{space}",
            of_set.manifest,
            of_set.source,
            encoder=encoder,
            scaling=None,
            config=settings,
            progress=progress,
        )
        for name, of_set in clips.items()
    }
    for name in SETS:
        model, key, seconds = _trained(run, name, stores[name], settings, progress)
        for tested in _measured(run, name, stores, model, key, seed=config.seed):
            yield replace(tested, training_s=seconds)


def _trained(
    run: Run, name: str, store: LatentStore, settings: AuditConfig, progress: Progress
) -> tuple[ReidModel, str, float]:
    """The model of a set, its fingerprint, and the seconds that its training took."""
    recipe = stages.training_recipe(settings, channels=store.frame_shape[0])

    def make(folder: Path) -> None:
        train_reid(store, recipe, folder, seed=settings.seed, device=settings.device, progress=progress)

    stage = f"reid-{name}-{settings.space}"
    inputs = {"store": store.fingerprint, "recipe": recipe.model_dump(mode="json"), "seed": settings.seed}
    folder = run.stage(stage, inputs, make) / "model"
    done = run.stages[stage]
    seconds = float((done["made_in"] if done["reused"] else done)["seconds"])
    return load_reid(folder, device=settings.device), folder_fingerprint(folder), seconds


def _measured(
    run: Run, train: str, stores: dict[str, LatentStore], model: ReidModel, model_key: str, *, seed: int
) -> list[Measured]:
    """The model on every set's holdout; kept."""
    kind = TypeAdapter(list[Measured])
    space = model.network.architecture.space

    def make(folder: Path) -> None:
        found = [on_holdout(store, model, train=train, test=name, seed=seed) for name, store in stores.items()]
        write_json(folder / RESULT, {"tested": kind.dump_python(found, mode="json")})

    inputs = {"model": model_key, "stores": {name: store.fingerprint for name, store in stores.items()}, "seed": seed}
    file = run.stage(f"tested-{train}-{space}", inputs, make) / RESULT
    try:
        return kind.validate_python(read_json(file)["tested"])
    except (KeyError, ValidationError) as error:
        raise CorruptFile(f"{file}: damaged ({error}); delete {file.parent} and run the same command again") from error


def on_holdout(store: LatentStore, model: ReidModel, *, train: str, test: str, seed: int) -> Measured:
    """A model on the holdout of a set, which need not be the one it was trained on.

    Args:
        store: of the set; its own scaling constants are not used.
        model: scales every frame by those of its train set.
        train: name of the model's set.
        test: name of the store's set.
        seed: of the pairs with strangers and of the resampling.

    Raises:
        TooFewSamples: with too few holdout clips or frames.
        DegenerateValues: if the model gives the same feature for all frames.
    """
    clips = store.of_split("holdout")
    _require_frames(clips, store)
    few = extract_features(store, clips, model.embed, frames_per_clip=stages.VERIFICATION_FRAMES)
    all_frames = extract_features(store, clips, model.embed, frames_per_clip=None)
    of_clip = clip_correlations(all_frames.values, all_frames.clip)
    absent: Absent = {}
    return Measured(
        space=model.network.architecture.space,
        train=train,
        test=test,
        clips=len(clips),
        verification=verification(few, clips, model, seed=seed, absent=absent),
        mcc_mean=float(of_clip.mean()),
        mcc_std=float(of_clip.std()),
        training_s=0.0,
        absent=absent,
    )


def _require_frames(clips: pd.DataFrame, store: LatentStore) -> None:
    short = clips.loc[clips["n_frames"] < 2, "clip_id"].astype(str).tolist()
    if short:
        raise TooFewSamples(
            f"{store.folder}: expected holdout clips of at least two frames, found one in {', '.join(short[:3])}"
            f"{' …' if len(short) > 3 else ''}; leave these clips out"
        )
