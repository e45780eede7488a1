"""``mnemoscope train``: one sub-command per model."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import Field

from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.config import C, Config, build, merged
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Run
from mnemoscope.latents.store import LatentStore
from mnemoscope.models.device import usable_device
from mnemoscope.models.reid import ReidModel
from mnemoscope.training import ef as ef_training
from mnemoscope.training import lidm as lidm_training
from mnemoscope.training import lvdm as lvdm_training
from mnemoscope.training import vae as vae_training
from mnemoscope.training.ef import EfTraining, train_ef
from mnemoscope.training.lidm import LidmTraining, train_lidm
from mnemoscope.training.lvdm import LvdmTraining, train_lvdm
from mnemoscope.training.reid import PRESETS, ReidTraining, train_reid
from mnemoscope.training.vae import VaeTraining, train_vae


class ReidConfig(Config):
    """Training of a re-identification model.

    Attributes:
        preset: default, or paper.
        reid: changes to the preset's recipe, such as reid.loop.epochs=20.
        seed: of pairs, order and weights.
        device: torch device.
    """

    preset: Literal["default", "paper"] = "default"
    reid: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"

    def recipe(self, store: LatentStore) -> ReidTraining:
        """The resolved recipe for a store."""
        preset = PRESETS[self.preset](space=store.record.space, channels=store.frame_shape[0])
        return build(ReidTraining, merged(preset.model_dump(), self.reid), prefix="reid.")


class VaeConfig(Config):
    """Training of a VAE.

    Attributes:
        preset: small (a few MB, trains on two cores), or paper.
        vae: changes to the preset's recipe, such as vae.loop.epochs=20.
        seed: of frames, order, noise and weights.
        device: torch device.
    """

    preset: vae_training.Preset = "small"
    vae: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"

    def recipe(self) -> VaeTraining:
        """The resolved recipe."""
        preset = vae_training.PRESETS[self.preset]()
        return build(VaeTraining, merged(preset.model_dump(), self.vae), prefix="vae.")


class LidmConfig(Config):
    """Training of a latent image diffusion model.

    Attributes:
        preset: small (trains on two cores), or paper.
        lidm: changes to the preset's recipe, such as lidm.loop.epochs=20.
        seed: of frames, order, noise and weights.
        device: torch device.
    """

    preset: lidm_training.Preset = "small"
    lidm: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"

    def recipe(self) -> LidmTraining:
        """The resolved recipe."""
        preset = lidm_training.PRESETS[self.preset]()
        return build(LidmTraining, merged(preset.model_dump(), self.lidm), prefix="lidm.")


class LvdmConfig(Config):
    """Training of a latent video diffusion model.

    Attributes:
        preset: small (trains on two cores), or paper.
        lvdm: changes to the preset's recipe, such as lvdm.window_frames=32.
        seed: of windows, order, noise and weights.
        device: torch device.
    """

    preset: lvdm_training.Preset = "small"
    lvdm: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"

    def recipe(self) -> LvdmTraining:
        """The resolved recipe."""
        preset = lvdm_training.PRESETS[self.preset]()
        return build(LvdmTraining, merged(preset.model_dump(), self.lvdm), prefix="lvdm.")


class EfConfig(Config):
    """Training of an EF regressor.

    Attributes:
        preset: small (trains in two minutes on a core), or paper.
        ef: changes to the preset's recipe, such as ef.loop.epochs=20.
        seed: of windows, order and weights.
        device: torch device.
    """

    preset: ef_training.Preset = "small"
    ef: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"

    def recipe(self) -> EfTraining:
        """The resolved recipe."""
        preset = ef_training.PRESETS[self.preset]()
        return build(EfTraining, merged(preset.model_dump(), self.ef), prefix="ef.")


def train_reid_model(
    *,
    store: Path | str,
    out: Path | str,
    altered: Path | str | None = None,
    config: ReidConfig | None = None,
    progress: Progress = unwatched,
) -> ReidModel:
    """Trains a re-identification model on a store, into ``out / "reid" / "model"``, or goes on with it.

    ``altered`` is a store of altered frames of the same clips (``encode --altered-frames``), which join them.
    """
    config = config or ReidConfig()
    latents = LatentStore(Path(store))
    changed = LatentStore(Path(altered)) if altered is not None else None
    recipe = config.recipe(latents)

    device = usable_device(config.device)

    def make(folder: Path) -> None:
        train_reid(latents, recipe, folder, altered=changed, seed=config.seed, device=device, progress=progress)

    stores = [latents] if changed is None else [latents, changed]
    folder = _stage("reid", stores, Path(out), config, recipe, make)
    from mnemoscope.models.reid import load_reid

    return load_reid(folder / "model", device=config.device)


def train_vae_model(
    *, store: Path | str, out: Path | str, config: VaeConfig | None = None, progress: Progress = unwatched
) -> Path:
    """Trains a VAE on an image-space store, into the diffusers folder ``out / "vae" / "model"``, or goes on with it."""
    return _trained("vae", train_vae, store, out, config or VaeConfig(), progress)


def train_lidm_model(
    *, store: Path | str, out: Path | str, config: LidmConfig | None = None, progress: Progress = unwatched
) -> Path:
    """Trains a latent image diffusion model on a latent store, into ``out / "lidm" / "model"``, or goes on with it."""
    return _trained("lidm", train_lidm, store, out, config or LidmConfig(), progress)


def train_lvdm_model(
    *, store: Path | str, out: Path | str, config: LvdmConfig | None = None, progress: Progress = unwatched
) -> Path:
    """Trains a latent video diffusion model on a latent store, into ``out / "lvdm" / "model"``, or goes on with it."""
    return _trained("lvdm", train_lvdm, store, out, config or LvdmConfig(), progress)


def train_ef_model(
    *, store: Path | str, out: Path | str, config: EfConfig | None = None, progress: Progress = unwatched
) -> Path:
    """Trains an EF regressor on an image-space store, into ``out / "ef" / "model"``, or goes on with it."""
    return _trained("ef", train_ef, store, out, config or EfConfig(), progress)


def _trained(
    name: str,
    train: Callable[..., object],
    store: Path | str,
    out: Path | str,
    config: VaeConfig | LidmConfig | LvdmConfig | EfConfig,
    progress: Progress,
) -> Path:
    """The folder of the model that a stage of one store makes."""
    held, recipe, device = LatentStore(Path(store)), config.recipe(), usable_device(config.device)

    def make(folder: Path) -> None:
        train(held, recipe, folder, seed=config.seed, device=device, progress=progress)

    return _stage(name, [held], Path(out), _resolved(name, config, recipe), recipe, make) / "model"


def _resolved(name: str, config: C, recipe: Config) -> C:
    """The settings with the whole recipe in place of the changes to its preset."""
    return config.model_copy(update={name: recipe.model_dump(mode="json")})


def _stage(
    name: str,
    stores: list[LatentStore],
    out: Path,
    config: Config,
    recipe: Config,
    make: Callable[[Path], None],
) -> Path:
    seed: int = getattr(config, "seed", 0)
    run = Run(
        out,
        command=f"train {name}",
        identity={"store": str(stores[0].folder.resolve())},
        config=config.model_dump(mode="json"),
        seed=seed,
    )
    inputs = {"stores": [store.fingerprint for store in stores], "recipe": recipe.model_dump(mode="json"), "seed": seed}
    with run.recording():
        folder = run.stage(name, inputs, make)
    _wait_for_other_processes()
    return folder


def _wait_for_other_processes() -> None:
    """Until the first process has moved the finished stage to its place."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


@click.group()
def command() -> None:
    """Train a model."""


_STORE = click.option("--store", required=True, type=click.Path(path_type=Path), help="Latent or image-space store.")
_OUT = click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run.")


@command.command()
@_STORE
@_OUT
@click.option("--altered", type=click.Path(path_type=Path), help="Store of altered frames of the same clips.")
@settings(ReidConfig)
def reid(store: Path, out: Path, altered: Path | None, asked: Asked[ReidConfig]) -> None:
    """Train a re-identification model on the train clips of a store.

    \b
    Example: mnemoscope train reid --store runs/real-latents --out runs/reid --set reid.loop.epochs=40
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            recipe = config.recipe(LatentStore(store))
            show_plan(_resolved("reid", config, recipe), {"store": store, "out": out})
            return
        train_reid_model(store=store, out=out, altered=altered, config=config, progress=progress)
        _say(out / "reid" / "model", asked.as_json)


@command.command()
@_STORE
@_OUT
@settings(VaeConfig)
def vae(store: Path, out: Path, asked: Asked[VaeConfig]) -> None:
    """Train a VAE on an image-space store.

    \b
    Example: mnemoscope train vae --store runs/frames --out runs/vae --set vae.loop.epochs=20
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(_resolved("vae", config, config.recipe()), {"store": store, "out": out})
            return
        _say(train_vae_model(store=store, out=out, config=config, progress=progress), asked.as_json)


@command.command()
@_STORE
@_OUT
@settings(LidmConfig)
def lidm(store: Path, out: Path, asked: Asked[LidmConfig]) -> None:
    """Train a latent image diffusion model on the train clips of a latent store.

    \b
    Example: mnemoscope train lidm --store runs/real-latents --out runs/lidm
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(_resolved("lidm", config, config.recipe()), {"store": store, "out": out})
            return
        _say(train_lidm_model(store=store, out=out, config=config, progress=progress), asked.as_json)


@command.command()
@_STORE
@_OUT
@settings(LvdmConfig)
def lvdm(store: Path, out: Path, asked: Asked[LvdmConfig]) -> None:
    """Train a latent video diffusion model, conditioned on a frame and EF, on the train clips of a latent store.

    \b
    Example: mnemoscope train lvdm --store runs/real-latents --out runs/lvdm --set lvdm.window_frames=32
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(_resolved("lvdm", config, config.recipe()), {"store": store, "out": out})
            return
        _say(train_lvdm_model(store=store, out=out, config=config, progress=progress), asked.as_json)


@command.command()
@_STORE
@_OUT
@settings(EfConfig)
def ef(store: Path, out: Path, asked: Asked[EfConfig]) -> None:
    """Train a regressor of the ejection fraction on the train clips of an image-space store.

    \b
    Example: mnemoscope train ef --store runs/frames --out runs/ef

    Frames of the small preset: mnemoscope encode CLIPS --space image --set frames.height=56 --set frames.width=56
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(_resolved("ef", config, config.recipe()), {"store": store, "out": out})
            return
        _say(train_ef_model(store=store, out=out, config=config, progress=progress), asked.as_json)


def _say(model: Path, as_json: bool) -> None:
    show_json({"model": model}) if as_json else click.echo(model)
