"""Chain: from a released clip back to the latent it was decoded from and the generator that drew it."""

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mnemoscope.core.errors import Mismatch
from mnemoscope.core.files import read_json
from mnemoscope.core.provenance import RUN_FILE, STAGE_FILE
from mnemoscope.latents.store import LatentStore, is_store

_BLOCK_CLIPS = 256
# Settings that say how was sampled, and nothing of the house's folders.
_TOLD = (
    *("count", "frames", "sampler", "steps", "frame_steps", "guidance", "merge", "image_share", "mixing", "codec"),
    "even_classes",
)
_EF_RULE = re.compile(r"prior|uniform(:[\d.]+){0,2}")


def sampling_run(clips: Path) -> Path | None:
    """The run of ``mnemoscope sample`` that a folder of clips is part of; None for other clips."""
    run = clips.resolve().parent
    if not (run / RUN_FILE).is_file():
        return None
    return run if str(read_json(run / RUN_FILE).get("command")).startswith("sample ") else None


def generator_record(run: Path) -> dict[str, Any]:
    """What the run of ``mnemoscope sample`` says of the generator: fingerprints and settings.

    Raises:
        Mismatch: if its latents are no longer those that the clips were decoded from.
    """
    record, of_clips = read_json(run / RUN_FILE), read_json(run / "clips" / STAGE_FILE)["inputs"]
    latents = run / "latents"
    if is_store(latents) and LatentStore(latents).fingerprint != of_clips["latents"]:
        raise Mismatch(f"{latents}: expected the latents that the clips were decoded from, found others; sample again")
    models = read_json(latents / STAGE_FILE)["inputs"]["models"] if (latents / STAGE_FILE).is_file() else []
    return {
        "command": record["command"],
        "seed": record["seed"],
        "settings": _settings(record["config"]),
        "models": [model for model in models if isinstance(model, str)],
        "vae": of_clips["vae"],
        "latents": of_clips["latents"],
        "versions": record["versions"],
        "git_commit": record["git_commit"],
    }


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """How was sampled; of lists, filters and classes, whose names may be the house's, only that there were some."""
    told = {key: config[key] for key in _TOLD if key in config}
    told |= {f"with_{key}": config[key] is not None for key in ("filter", "class_name") if key in config}
    if "ef" in config:
        told["ef"] = config["ef"] if _EF_RULE.fullmatch(config["ef"]) else "a list"
    return told


def latent_digests(folder: Path, clips: Collection[str]) -> dict[str, str]:
    """SHA-256 of the latents (T, C, h, w) of some clips as the store holds them; none where there is no store."""
    if not is_store(folder):
        return {}
    store = LatentStore(folder)
    rows = store.clips[store.clips["clip_id"].isin(set(clips))]
    digests = {}
    for start in range(0, len(rows), _BLOCK_CLIPS):
        some = rows.iloc[start : start + _BLOCK_CLIPS]
        first = int(some["first_frame"].iloc[0])
        frames = store.read(first, int(some["first_frame"].iloc[-1] + some["n_frames"].iloc[-1]) - first)
        for clip_id, begin, count in zip(some["clip_id"], some["first_frame"] - first, some["n_frames"], strict=True):
            digests[clip_id] = hashlib.sha256(frames[begin : begin + count].tobytes()).hexdigest()
    return digests
