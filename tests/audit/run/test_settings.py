import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.audit.run.settings import PAPER_CHOICES, AuditConfig, frame_limit, recorded
from mnemoscope.core.config import build, resolve
from mnemoscope.core.errors import ConfigError


def test_the_paper_compares_first_frames_and_counts_every_query() -> None:
    paper = build(AuditConfig, {"preset": "paper"})
    assert (paper.train_frames, paper.query_frames, paper.gate_percentile) == (1, 1, None)
    default = AuditConfig()
    assert (default.train_frames, default.query_frames, default.gate_percentile) == (4, 4, 5.0)
    kept = {name: value for name, value in default.model_dump().items() if name not in {"preset", *PAPER_CHOICES}}
    assert kept.items() <= paper.model_dump().items()


@pytest.mark.parametrize(("name", "value"), [("train_frames", 3), ("query_frames", "all"), ("gate_percentile", 2.0)])
def test_an_explicit_value_wins_over_the_preset(name: str, value: Any) -> None:
    assert getattr(resolve(AuditConfig, assignments=["preset=paper"], given={name: value}), name) == value


def test_a_written_preset_reads_back_the_same() -> None:
    paper = build(AuditConfig, {"preset": "paper", "train_frames": 2})
    assert build(AuditConfig, paper.model_dump(mode="json")) == paper


@given(st.integers(1, 10**6))
def test_a_frame_count_is_a_number_or_all(count: int) -> None:
    assert frame_limit(AuditConfig(train_frames=count).train_frames) == count
    assert frame_limit(build(AuditConfig, {"train_frames": str(count)}).train_frames) == count
    assert frame_limit(AuditConfig(train_frames="all").train_frames) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train_frames": 0}, r"train_frames \(--train-frames\) must be at least 1 or 'all', found 0"),
        ({"query_frames": -1}, r"query_frames \(--query-frames\) must be at least 1"),
        ({"query_frames": "some"}, "query_frames"),
        ({"percentile": 100}, "percentile.*less than 100"),
        ({"percentile": 0}, "percentile.*greater than 0"),
        ({"gate_percentile": 100}, "gate_percentile"),
        ({"fdr_rate": 0}, "fdr_rate"),
        ({"val_share": 1}, "val_share"),
        ({"max_frames": 1}, "max_frames"),
        ({"space": "pixels"}, "space"),
        ({"percentil": 95}, "percentil: unknown key; did you mean 'percentile'"),
        ({"frames": {"heigth": 3}}, r"frames\.heigth: unknown key; did you mean 'frames\.height'"),
        ({"table": {"patients": "a"}}, r"table\.patients: unknown key; did you mean 'table\.patient"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(AuditConfig, values)


def test_the_salt_is_not_recorded() -> None:
    config = AuditConfig(patient_salt="a secret of the house")
    assert "a secret of the house" not in str(recorded(config))
    assert recorded(AuditConfig()) == AuditConfig().model_dump(mode="json")
    assert build(AuditConfig, recorded(config)).percentile == config.percentile


def test_a_models_folder_is_recorded_for_every_working_directory() -> None:
    assert recorded(AuditConfig(reid_model=Path("model")))["reid_model"] == str(Path.cwd() / "model")


def test_every_setting_is_explained() -> None:
    explained = re.findall(r"^        (\w+): ", AuditConfig.__doc__ or "", flags=re.MULTILINE)
    assert explained == list(AuditConfig.model_fields)
