"""Generators and a VAE of a few thousand weights that fit each other: latents 4×6×6 of frames 24×24."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mnemoscope.core.rng import generator
from mnemoscope.latents.scaling import Scaling
from mnemoscope.models.generator import GeneratorRecord, Kind
from mnemoscope.models.initial import named_weights
from mnemoscope.models.lidm import save_lidm
from mnemoscope.models.lvdm import save_lvdm
from mnemoscope.models.reid import Reid, ReidArchitecture, ReidModel
from mnemoscope.models.vae import frame_vae, load_vae
from tests.tiny_generators import tiny_lidm, tiny_lvdm, tiny_record

SHAPE = (4, 6, 6)
SIZE_PX = 24


@dataclass(frozen=True)
class Models:
    """Folders of models that fit each other."""

    vae: Path
    lidm: Path
    lvdm: Path


def record_of(kind: Kind, *, classes: tuple[str, ...] = (), encoder: str = "toy") -> GeneratorRecord:
    plain = tiny_record(kind, frame_shape=SHAPE, classes=classes)
    return replace(plain, height=SIZE_PX, width=SIZE_PX, encoder=encoder)


def write_vae(folder: Path, *, seed: int = 0) -> str:
    """Saves a VAE with f = 4; its fingerprint."""
    with named_weights(seed, "tiny"):
        network = frame_vae(channels=(4, 4, 4))
    network.save_pretrained(folder, safe_serialization=True)
    return load_vae(str(folder)).fingerprint


def write_models(folder: Path, *, classes: tuple[str, ...] = ()) -> Models:
    encoder, number = write_vae(folder / "vae"), len(classes)
    lidm, lvdm = (record_of(kind, classes=classes, encoder=encoder) for kind in ("lidm", "lvdm"))
    save_lidm(folder / "lidm", tiny_lidm(frame_shape=SHAPE, n_classes=number), lidm)
    save_lvdm(folder / "lvdm", tiny_lvdm(frame_shape=SHAPE, n_classes=number), lvdm)
    return Models(folder / "vae", folder / "lidm", folder / "lvdm")


def tiny_reid(*, scaling: Scaling, encoder: str) -> ReidModel:
    """A network with a monotone head: a copy has logit 5, everything else less."""
    architecture = ReidArchitecture(backbone="compact", stem="dense", head="monotone", scaling="standard", features=8)
    with named_weights(0, "tiny"):
        network = Reid(architecture)
    return ReidModel(network, scaling=scaling, encoder=encoder, preset="toy")


def write_audit(
    folder: Path, train: np.ndarray, record: GeneratorRecord, *, tau: float, model: Path | None = None
) -> None:
    """What the filter reads of a finished audit whose train frames are these, unscaled latents (N, C, h, w)."""
    reid = tiny_reid(scaling=record.scaling, encoder=record.encoder)
    reid.save(model or folder / "reid" / "model")
    (folder / "features").mkdir(parents=True)
    count = len(train)
    np.savez(folder / "features" / "train.npz", values=reid.embed(train), clip=np.arange(count), frame=np.zeros(count))
    (folder / "audit.json").write_text(json.dumps({"privacy": {"tau": tau}}))
    (folder / "run.json").write_text(json.dumps({"config": {"reid_model": None if model is None else str(model)}}))


def named_noise(names: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """Noise (B, *shape) that depends on each name alone."""
    return np.stack([generator(0, name).normal(size=shape) for name in names]).astype(np.float32)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
