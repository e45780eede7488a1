"""Provenance: how to get the same page again, and how to cite it."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnemoscope.audit.run.results import AUDIT, HOLDOUT, PATIENTS, SAMPLES
from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.core.files import file_fingerprint, read_json
from mnemoscope.core.provenance import STAGE_FILE

CITATION = (
    "mnemoscope {version}: an audit of what a generative model of medical video remembers. The method follows "
    "M. Dombrowski, H. Reynaud, B. Kainz: Uncovering Hidden Subspaces in Video Diffusion Models Using "
    "Re-Identification (arXiv:2411.04956, 2024)."
)


def commands(record: Mapping[str, Any]) -> list[str]:
    """The commands that make this audit and its page from the same inputs; places that are not recorded are named."""
    inputs, verb = record.get("identity") or {}, record.get("command") or "audit"
    given = [f"--{name} {shlex.quote(str(inputs.get(name) or name.upper()))}" for name in ("real", "synthetic")]
    changed = [f"--set {shlex.quote(f'{key}={value}')}" for key, value in _changes(record.get("config") or {})]
    return [" ".join(["mnemoscope", verb, *given, "--out RUN", *changed]), "mnemoscope report RUN"]


def _changes(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that are not the default's, as ``--set`` takes them."""
    own = dict(_leaves(config))
    default = dict(_leaves(AuditConfig().model_dump(mode="json")))
    preset = AuditConfig(preset=config["preset"]) if config.get("preset") in ("default", "paper") else AuditConfig()
    default |= dict(_leaves(preset.model_dump(mode="json"))) | {"preset": "default"}
    # A value that is no number, or a salt that was not recorded, cannot be set again.
    yield from ((k, v) for k, v in own.items() if default.get(k) != v and v not in ("NaN", "not recorded"))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def hashes(folder: Path) -> dict[str, str]:
    """What the audit in a folder was computed from, and what it is: fingerprints (BLAKE2b, 128 bit)."""
    return made_from(folder) | {name: file_fingerprint(folder / name) for name in (AUDIT, SAMPLES, HOLDOUT, PATIENTS)}


def made_from(folder: Path) -> dict[str, str]:
    """What the audit in a folder was computed from: fingerprints, as far as it kept them."""
    stage = folder / "features" / STAGE_FILE
    inputs = read_json(stage).get("inputs", {}) if stage.is_file() else {}
    found = {"re-identification model": inputs.get("model")}
    found |= dict(zip(("real latents", "synthetic latents"), inputs.get("stores") or (), strict=False))
    return {name: str(value) for name, value in found.items() if value}


def citation(record: Mapping[str, Any]) -> str:
    """How to cite the audit."""
    return CITATION.format(version=(record.get("versions") or {}).get("mnemoscope") or "")
