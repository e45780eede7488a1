"""Results: what a finished audit is, and its files."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
from pydantic import TypeAdapter

from mnemoscope.core.errors import CorruptFile, InputError
from mnemoscope.core.files import read_json, value_fingerprint, whole_file, write_json
from mnemoscope.core.types import SCHEMA, AuditResult

AUDIT, SAMPLES, HOLDOUT, PATIENTS = "audit.json", "samples.parquet", "holdout.parquet", "patients.parquet"
_SHIPPED = "audit.schema.json"


@dataclass(frozen=True)
class Finished:
    """A finished audit: its numbers, its tables, and where the clips lie (None where only latents were given)."""

    result: AuditResult
    samples: pd.DataFrame
    holdout: pd.DataFrame
    patients: pd.DataFrame
    real_files: dict[str, Path] | None
    synthetic_files: dict[str, Path] | None


def write_audit(out: Path, finished: Finished, *, csv: bool) -> None:
    """Writes ``audit.json`` (checked against its schema) and the three tables."""
    values = json.loads(json.dumps(finished.result.to_json(), allow_nan=False))
    jsonschema.validate(values, audit_schema())
    tables = {SAMPLES: finished.samples, HOLDOUT: finished.holdout, PATIENTS: finished.patients}
    for name, table in tables.items():
        with whole_file(out / name) as temporary:
            table.to_parquet(temporary, index=False)
        if csv:
            with whole_file((out / name).with_suffix(".csv")) as temporary:
                table.to_csv(temporary, index=False)
    write_json(out / AUDIT, values)


def read_result(run: Path) -> AuditResult:
    """The numbers of a finished audit.

    Raises:
        InputError: where there is no finished audit.
        CorruptFile: if its ``audit.json`` is damaged.
    """
    if not (run / AUDIT).is_file():
        raise InputError(f"{run}: expected a finished audit with {AUDIT}; run mnemoscope audit --out {run}")
    return AuditResult.from_json(read_json(run / AUDIT))


def audit_name(samples: pd.DataFrame) -> str:
    """A name of an audit that follows from its samples and their scores; by it decisions are told apart."""
    return value_fingerprint(sorted(zip(samples["clip_id"].astype(str), samples["p_max"].astype(str), strict=True)))


def read_audit_table(path: Path) -> pd.DataFrame:
    """A table of a finished audit.

    Raises:
        CorruptFile: if it is missing or damaged.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise CorruptFile(
            f"{path}: expected a readable table, got: {error}; run the same audit again, which keeps what is whole"
        ) from error


@cache
def audit_schema() -> dict[str, Any]:
    """The JSON Schema of ``mnemoscope.audit/1``, as it ships."""
    value: dict[str, Any] = json.loads(files("mnemoscope.audit").joinpath(_SHIPPED).read_text())
    return value


def made_schema() -> dict[str, Any]:
    """The JSON Schema that follows from the result's types; :func:`ship_schema` writes it."""
    schema = TypeAdapter(AuditResult).json_schema()
    schema["properties"] = {"schema": {"const": SCHEMA}} | schema["properties"]
    for part in (schema, *schema["$defs"].values()):
        part |= {"required": list(part["properties"]), "additionalProperties": False}
        for value in part["properties"].values():
            value.pop("default", None)
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA}
    return title | {key: value for key, value in schema.items() if key != "title"}


def ship_schema() -> None:
    """Writes the schema that follows from the types into the package."""
    path = Path(str(files("mnemoscope.audit").joinpath(_SHIPPED)))
    path.write_text(json.dumps(made_schema(), indent=2) + "\n")
