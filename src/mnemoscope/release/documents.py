"""Documents: what a stranger reads beside the clips: card and datasheet, Croissant, the audit in short."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from mnemoscope.core.files import sha256_of, write_json, write_text
from mnemoscope.core.types import AuditResult
from mnemoscope.data.clips import VideoInfo
from mnemoscope.release.verify import DICOM, VIDEOS

FILE_LIST, README, CROISSANT, SUMMARY = "FileList.csv", "README.md", "croissant.json", "audit-summary.json"
SUMMARY_SCHEMA = "mnemoscope.audit-summary/1"
_KINDS = {
    ".dcm": "application/dicom",
    ".avi": "video/x-msvideo",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".gif": "image/gif",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS = {
    "FileName": ("sc:Text", "file in Videos/; names without suffix are .avi (Videos/NAME.avi)"),
    "EF": ("sc:Float", "ejection fraction in percent, the label that came with the clip"),
    "ESV": ("sc:Float", "end-systolic volume in ml, where known"),
    "EDV": ("sc:Float", "end-diastolic volume in ml, where known"),
    "FrameHeight": ("sc:Integer", "in pixels"),
    "FrameWidth": ("sc:Integer", "in pixels"),
    "FPS": ("sc:Float", "frames per second"),
    "NumberOfFrames": ("sc:Integer", "frames of the clip"),
    "Split": ("sc:Text", "TRAIN for every clip: synthetic clips are for training"),
}


@dataclass(frozen=True)
class Card:
    """What people say of the data set."""

    title: str
    licence: str
    creator: str
    contact: str
    created: str


def file_list(rows: pd.DataFrame, infos: Sequence[VideoInfo], names: Sequence[str]) -> pd.DataFrame:
    """EchoNet's list. Its reader takes names without suffix for .avi, and skips .avi files that are named in full.

    Args:
        rows: of the manifest, with the labels, (N,).
        infos: what the files say of their size, rate and length, in the same order.
        names: file names in the release, in the same order.
    """
    labels = [rows[column].tolist() for column in ("ef", "esv", "edv")]
    shapes = [[getattr(info, of) for info in infos] for of in ("height", "width", "fps", "n_frames")]
    values = [[name.removesuffix(".avi") for name in names], *labels, *shapes]
    table = pd.DataFrame(dict(zip(_COLUMNS, [*values, ["TRAIN"] * len(names)], strict=True)))
    return table.astype({name: "Int64" for name, (kind, _) in _COLUMNS.items() if kind == "sc:Integer"})


def audit_summary(result: AuditResult) -> dict[str, Any]:
    """The audit's numbers without anything that stands for a single real clip, patient or small group of them."""
    values = result.to_json()
    for name in ("top_hits", "subgroups"):
        (values["recall"] or {}).pop(name, None)
    values.pop("gallery")
    return values | {"schema": SUMMARY_SCHEMA}


def write_documents(
    folder: Path, card: Card, result: AuditResult, table: pd.DataFrame, record: Mapping[str, Any]
) -> list[str]:
    """Writes list, summary, card and Croissant, and returns their names.

    Args:
        folder: of the release.
        card: what people say.
        result: of the audit.
        table: EchoNet's list.
        record: the provenance so far.
    """
    table.to_csv(folder / FILE_LIST, index=False)
    write_json(folder / SUMMARY, audit_summary(result))
    write_text(folder / README, _readme(card, result, table, record))
    write_json(folder / CROISSANT, croissant(folder, card, record))
    return [FILE_LIST, SUMMARY, README, CROISSANT]


def _readme(card: Card, result: AuditResult, table: pd.DataFrame, record: Mapping[str, Any]) -> str:
    source = files("mnemoscope.release").joinpath("templates", "README.md.j2").read_text(encoding="utf-8")
    # Markdown shows HTML: what people or files say is escaped.
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    front = {
        "pretty_name": card.title,
        "license": "other",
        "license_name": card.licence,
        "size_categories": [next((name for limit, name in _SIZES if len(table) < limit), "n>1M")],
        "tags": ["synthetic", "medical", "video", "mnemoscope"],
        "configs": [{"config_name": "default", "data_files": FILE_LIST}],
    }
    body = page.from_string(source).render(card=card, audit=result, table=table, record=record)
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{body}\n"


def croissant(folder: Path, card: Card, record: Mapping[str, Any]) -> dict[str, Any]:
    """Croissant 1.1 metadata of the release.

    Args:
        folder: of the release, with its list and summary.
        card: what people say.
        record: the provenance so far.
    """
    context = files("mnemoscope.release").joinpath("templates", "croissant-context.json").read_text(encoding="utf-8")
    day = datetime.fromisoformat(card.created).date()
    names = [Path(name) for clip in record["clips"] for name in clip["files"]]
    suffixes = {place: {name.suffix for name in names if name.parts[0] == place} for place in (VIDEOS, DICOM)}
    return {
        "@context": json.loads(context),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": card.title,
        "description": f"{len(record['clips'])} synthetic clips, audited for memorised patients with mnemoscope; "
        f"verdict: {record['audit']['verdict']}.",
        "license": card.licence,
        "creator": {"@type": "sc:Organization", "name": card.creator},
        "datePublished": day.isoformat(),
        "citeAs": f"@misc{{release, title={{{card.title}}}, author={{{card.creator}}}, year={{{day.year}}}}}",
        "version": "1.0.0",
        "distribution": [
            _file_object(folder, FILE_LIST, "text/csv"),
            _file_object(folder, SUMMARY, "application/json"),
            _file_object(folder, README, "text/markdown"),
            *(_file_set(place, some) for place, some in suffixes.items() if some),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "clips",
                "name": "clips",
                "description": "One row for each clip.",
                "field": [_field(column, *told) for column, told in _COLUMNS.items()],
            },
        ],
    }


def _file_object(folder: Path, name: str, encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": encoding,
        "sha256": sha256_of(folder / name),
    }


def _file_set(place: str, suffixes: Collection[str]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": place,
        "name": place,
        "description": "One file for each clip.",
        "encodingFormat": sorted({_KINDS.get(suffix, "application/octet-stream") for suffix in suffixes}),
        "includes": f"{place}/*",
    }


def _field(column: str, kind: str, told: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"clips/{column}",
        "name": column,
        "description": told,
        "dataType": kind,
        "source": {"fileObject": {"@id": FILE_LIST}, "extract": {"column": column}},
    }
