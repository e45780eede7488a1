"""Settings of an audit: one frozen value, from defaults, preset, file and options."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from mnemoscope.core.config import Config
from mnemoscope.data.listing import TableColumns
from mnemoscope.data.transform import FrameTransform

FrameCount = int | Literal["all"]

# What the paper does where the default differs: first frames only, and every query counts.
PAPER_CHOICES: dict[str, Any] = {"train_frames": 1, "query_frames": 1, "gate_percentile": None, "altered_frames": 0}


class AuditConfig(Config):
    """Everything that decides an audit's result, besides its two folders.

    Attributes:
        preset: ``default``, or ``paper`` (what the paper describes, made consistent).
        space: ``latent``, or ``image`` to compare pixels without a VAE.
        percentile: of the holdout's p_max, above which a clip is flagged.
        gate_percentile: of the holdout's p_max, below which a query has learned nobody; null counts all.
        fdr_rate: expected share of innocents among the individually named clips.
        train_frames: frames of each train clip in the gallery, or ``all``.
        query_frames: frames of each holdout and synthetic clip that are looked up, or ``all``.
        altered_frames: frames of each train and val clip that join the training moved, brightened, blurred …, so that
            a changed copy is still recognised; not available where latents are given in place of videos.
        ladder_copies: train clips that are shown again through every rung of the ladder, each of another patient.
        evidence_pairs: most similar pairs of either set whose decoded frames are compared as well; 0 compares none.
        probe_clips: holdout clips for the shortcut probes.
        ef_reader: what measures the EF of synthetic clips: ``phantom``, the folder of an EF model, or null for nothing.
        measured_ef: CSV with ``clip_id`` and ``ef`` that another regressor measured, in place of a reader.
        vae: ``bundled``, a diffusers folder, or a hub name.
        precision: of the VAE; ``auto`` is bf16 on a GPU that has it, else fp32.
        frames: how frames are brought to one size, colour and rate.
        max_frames: frames kept of each clip; null keeps all.
        real_layout: layout of the real folder, see `docs/data.md`.
        synthetic_layout: layout of the synthetic folder.
        table: the table beside the real clips and the meaning of its columns.
        val_share: share of patients drawn for val where the data give no splits.
        holdout_share: share of patients drawn for holdout where the data give no splits.
        patient_salt: replaces every patient id by a keyed hash.
        drop_bad_clips: leave out clips with errors instead of refusing the run.
        reid: changes to the preset's training recipe, such as ``{"loop": {"epochs": 20}}``.
        reid_model: folder of a trained model to use instead of training one.
        csv: writes CSV beside each Parquet table.
        seed: of splits, pairs, weights and resampling.
        device: torch device.
    """

    preset: Literal["default", "paper"] = "default"
    space: Literal["latent", "image"] = "latent"
    percentile: float = Field(95.0, gt=0, lt=100)
    gate_percentile: float | None = Field(5.0, ge=0, lt=100)
    fdr_rate: float = Field(0.1, gt=0, lt=1)
    train_frames: FrameCount = 4
    query_frames: FrameCount = 4
    altered_frames: int = Field(8, ge=0)
    ladder_copies: int = Field(100, ge=1)
    evidence_pairs: int = Field(100, ge=0)
    probe_clips: int = Field(60, ge=4)
    ef_reader: str | None = None
    measured_ef: Path | None = None
    vae: str = "bundled"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    frames: FrameTransform = FrameTransform()
    max_frames: int | None = Field(None, ge=2)
    real_layout: str = "auto"
    synthetic_layout: str = "auto"
    table: TableColumns = TableColumns()
    val_share: float = Field(0.15, gt=0, lt=1)
    holdout_share: float = Field(0.2, gt=0, lt=1)
    patient_salt: str | None = None
    drop_bad_clips: bool = False
    reid: dict[str, Any] = Field(default_factory=dict)
    reid_model: Path | None = None
    csv: bool = False
    seed: int = 0
    device: str = "cpu"

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") == "paper":
            return PAPER_CHOICES | values
        return values

    @model_validator(mode="after")
    def _at_least_one_frame(self) -> "AuditConfig":
        for name in ("train_frames", "query_frames"):
            count = getattr(self, name)
            if count != "all" and count < 1:
                raise ValueError(f"{name} (--{name.replace('_', '-')}) must be at least 1 or 'all', found {count}")
        return self


def recorded(config: AuditConfig) -> dict[str, Any]:
    """The settings as a run's record keeps them: without the salt, which would undo the hash of the patients' ids."""
    values = config.model_dump(mode="json")
    if config.reid_model is not None:  # the record is read from other working directories, too
        values["reid_model"] = str(config.reid_model.resolve())
    return values if config.patient_salt is None else values | {"patient_salt": "not recorded"}


def frame_limit(count: FrameCount) -> int | None:
    """The number of frames, None standing for all of them."""
    return None if count == "all" else count
