"""``mnemoscope encode``: clips → latent store."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import click
from pydantic import Field

from mnemoscope.cli.terminal import Asked, settings, show_json, show_plan
from mnemoscope.core.config import Config
from mnemoscope.core.errors import ConfigError, OutputConflict
from mnemoscope.core.files import read_json, value_fingerprint, write_json
from mnemoscope.core.progress import Progress, unwatched
from mnemoscope.core.provenance import Warned, input_folder
from mnemoscope.data.alter import alteration
from mnemoscope.data.layouts import SplitShares, read_layout
from mnemoscope.data.listing import TableColumns
from mnemoscope.data.manifest import Manifest, concat_manifests
from mnemoscope.data.transform import FrameTransform
from mnemoscope.latents.encode import PixelEncoder, encode_set, source_fingerprint
from mnemoscope.latents.store import LatentStore, is_store
from mnemoscope.models.device import usable_device
from mnemoscope.models.vae import load_vae

PLAN_FILE = "encode.json"


class EncodeConfig(Config):
    """How clips become a store.

    Attributes:
        space: latent, or image to store pixels.
        vae: bundled, a diffusers folder, or a hub name.
        precision: of the VAE; auto is bf16 on a GPU that has it, else fp32.
        posterior: mean, or sample (depends on seed and clip only).
        frames: size, colour and rate.
        max_frames: frames kept of each clip.
        altered_frames: instead of the clip, so many frames of it, each moved, brightened, blurred …, for training.
        layout: of the folders.
        table: the table beside the clips and the meaning of its columns.
        split: puts every clip into this split.
        views: the view of the clips of a folder whose table says none, by the folder's name.
        val_share: share of patients drawn for val where the data give no splits.
        holdout_share: share of patients drawn for holdout where the data give no splits.
        seed: of splits and posterior samples.
        device: torch device.
    """

    space: Literal["latent", "image"] = "latent"
    vae: str = "bundled"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    posterior: Literal["mean", "sample"] = "mean"
    frames: FrameTransform = FrameTransform()
    max_frames: int | None = None
    altered_frames: int = Field(0, ge=0)
    layout: str = "auto"
    table: TableColumns = TableColumns()
    split: str | None = None
    views: dict[str, str] = Field(default_factory=dict)
    val_share: float = 0.15
    holdout_share: float = 0.2
    seed: int = 0
    device: str = "cpu"


def encode(
    *folders: Path | str,
    out: Path | str,
    config: EncodeConfig | None = None,
    scaling_from: Path | str | None = None,
    progress: Progress = unwatched,
) -> LatentStore:
    """Encodes the clips of one or more folders into the store ``out``; an interrupted call is continued.

    Args:
        folders: folders of clips in any known layout; clip ids must differ between them.
        out: the store.
        config: settings.
        scaling_from: store whose scaling constants are taken over, as a synthetic set needs; without it they come
            from the train clips.
        progress: told after every clip.

    Raises:
        OutputConflict: if ``out`` holds another store.
    """
    config, out = config or EncodeConfig(), Path(out)
    manifest = _manifest([input_folder(Path(folder), flag="DIR") for folder in folders], config)
    scaling = LatentStore(Path(scaling_from)).record.scaling if scaling_from is not None else None
    encoder = (
        PixelEncoder()
        if config.space == "image"
        else load_vae(
            config.vae,
            device=usable_device(config.device),
            precision=config.precision,
            posterior=config.posterior,
            seed=config.seed,
        )
    )
    source = source_fingerprint(manifest)
    plan = value_fingerprint(
        [source, encoder.fingerprint, config.model_dump(mode="json"), scaling and scaling.to_json()]
    )
    _claim(out, plan)
    if is_store(out):
        return LatentStore(out)
    with Warned() as warned:
        try:
            return encode_set(
                manifest,
                out,
                encoder=encoder,
                transform=config.frames,
                source=source,
                scaling=scaling,
                max_frames=config.max_frames,
                alter=alteration(config.altered_frames, seed=config.seed) if config.altered_frames else None,
                progress=progress,
            )
        finally:
            if warned.messages:
                record = read_json(out / PLAN_FILE)
                write_json(out / PLAN_FILE, record | {"warnings": record.get("warnings", []) + warned.messages})


def _manifest(folders: list[Path], config: EncodeConfig) -> Manifest:
    unknown = config.views.keys() - {folder.name for folder in folders}
    if unknown:
        raise ConfigError(
            f"--set views.{min(unknown)}: expected the name of a folder that is encoded "
            f"({', '.join(folder.name for folder in folders)})"
        )
    shares = SplitShares(val=config.val_share, holdout=config.holdout_share, seed=config.seed)
    return concat_manifests(
        _with_view(
            read_layout(folder, layout=config.layout, table=config.table, split=config.split, shares=shares),
            config.views.get(folder.name),
        )
        for folder in folders
    )


def _with_view(manifest: Manifest, view: str | None) -> Manifest:
    return manifest if view is None else replace(manifest, clips=manifest.clips.fillna({"view": view}))


def _claim(out: Path, plan: str) -> None:
    """Refuses a folder that holds anything but this very encode."""
    if out.exists() and any(out.iterdir()):
        if not (out / PLAN_FILE).is_file() or read_json(out / PLAN_FILE).get("plan") != plan:
            raise OutputConflict(
                f"{out}: holds something else, or a store of other clips or settings; choose another --out"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / PLAN_FILE, {"plan": plan})


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The store.")
@click.option("--scaling-from", type=click.Path(path_type=Path), help="Store of the train set, for other sets.")
@settings(EncodeConfig)
def command(folders: tuple[Path, ...], out: Path, scaling_from: Path | None, asked: Asked[EncodeConfig]) -> None:
    """Turn the clips in DIR (one or more folders) into a latent store.

    \b
    Example: mnemoscope encode CLIPS --out runs/real-latents
             mnemoscope encode GENERATED --split synthetic --scaling-from runs/real-latents --out runs/synthetic-latents
    """
    with asked.answering() as (config, progress):
        if asked.dry_run:
            show_plan(config, {"folders": ", ".join(map(str, folders)), "out": out, "scaling from": scaling_from})
            return
        store = encode(*folders, out=out, config=config, scaling_from=scaling_from, progress=progress)
        found = {"store": store.folder, "clips": len(store.clips), "frames": store.n_frames, "shape": store.frame_shape}
        show_json(found) if asked.as_json else click.echo(
            f"{out}: {found['clips']} clips, {found['frames']} frames of {' × '.join(map(str, store.frame_shape))}"
        )
