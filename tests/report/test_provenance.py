import json
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from mnemoscope.audit.run.settings import AuditConfig
from mnemoscope.core.config import resolve
from mnemoscope.core.files import file_fingerprint
from mnemoscope.report.provenance import citation, commands, hashes


@pytest.mark.parametrize(
    "config",
    [
        AuditConfig(),
        AuditConfig(percentile=97.5, table={"patient": "the subject"}, reid={"loop": {"epochs": 3}}),
        AuditConfig(preset="paper", train_frames="all", frames={"height": 64, "width": 64}),
    ],
)
def test_the_command_gives_the_same_settings_back(config: AuditConfig) -> None:
    record = {
        "command": "audit",
        "identity": {"real": "a b", "synthetic": "s"},
        "config": config.model_dump(mode="json"),
    }
    first, second = commands(record)
    words = shlex.split(first)
    assert words[:7] == ["mnemoscope", "audit", "--real", "a b", "--synthetic", "s", "--out"]
    assignments = [value for word, value in pairwise(words) if word == "--set"]
    assert resolve(AuditConfig, assignments=assignments, given={}) == config
    assert second == "mnemoscope report RUN"


def test_places_that_are_not_recorded_are_named() -> None:
    assert commands({"config": AuditConfig().model_dump(mode="json")})[0] == (
        "mnemoscope audit --real REAL --synthetic SYNTHETIC --out RUN"
    )


def test_fingerprints_are_those_of_the_files_and_of_what_the_features_came_from(tmp_path: Path) -> None:
    for name in ("audit.json", "samples.parquet", "holdout.parquet", "patients.parquet"):
        (tmp_path / name).write_text(name)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "stage.json").write_text(json.dumps({"inputs": {"model": "m", "stores": ["r", "s"]}}))
    found = hashes(tmp_path)
    assert found["audit.json"] == file_fingerprint(tmp_path / "audit.json")
    assert [found[name] for name in ("re-identification model", "real latents", "synthetic latents")] == ["m", "r", "s"]


def test_the_citation_names_the_version_and_the_method() -> None:
    text = citation({"versions": {"mnemoscope": "9.8.7"}})
    assert text.startswith("mnemoscope 9.8.7:")
    assert "arXiv:2411.04956" in text
