"""Verify: whether a release still holds exactly the files that were released."""

import os
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoscope.core.errors import CorruptFile, InputError
from mnemoscope.core.files import read_json, sha256_of
from mnemoscope.core.progress import Progress, unwatched

PROVENANCE, SCHEMA = "provenance.json", "mnemoscope.release/1"
_SEAL = re.compile(r"[0-9a-fA-F]{64}")
VIDEOS, DICOM = "Videos", "DICOM"
CLIP_FOLDERS = (f"{VIDEOS}/", f"{DICOM}/")
WORKERS = 2


@dataclass(frozen=True)
class Verified:
    """What became of a release.

    Attributes:
        clips: released.
        files: that were released, beside ``provenance.json``.
        sha256: of ``provenance.json``, the seal that the export printed.
        problems: every file that is changed, missing, extra or a link; none where the folder is whole.
    """

    clips: int
    files: int
    sha256: str
    problems: list[str]


def verify(folder: Path, *, seal: str | None = None, progress: Progress = unwatched) -> Verified:
    """Holds every file of a release against its provenance.

    Args:
        folder: the release.
        seal: SHA-256 of ``provenance.json`` as the export printed it; without it a folder whose provenance was written
            anew around other files passes.
        progress: told how far hashing is.

    Raises:
        InputError: if the folder is no release.
        CorruptFile: if its provenance cannot be read.
    """
    if seal is not None and not _SEAL.fullmatch(seal.strip()):
        raise InputError(f"--seal: expected the 64 hexadecimal digits that the export printed, found {seal!a}")
    record = read_provenance(folder)
    hashes: dict[str, str] = record["files"]
    entries = dict(_entries(folder, {str(parent) for name in hashes for parent in Path(name).parents}))
    problems = [f"missing: {name!a}" for name in hashes if name not in entries]
    problems += [f"{entries[name]}: {name!a}" for name in entries if name not in hashes or entries[name] == "link"]
    whole = [name for name in hashes if entries.get(name) == "extra"]
    # Only what was found by walking is opened: a name in a hostile provenance reaches no file outside.
    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(lambda name: sha256_of(folder / name), whole)
        for number, (name, digest) in enumerate(zip(whole, found, strict=True), start=1):
            if digest != hashes[name]:
                problems.append(f"changed: {name!a}")
            progress("verify", number, len(whole), "file")
    told = {name for clip in record["clips"] for name in clip["files"]}
    shown = {name for name in hashes if name.startswith(CLIP_FOLDERS)}
    if told != shown:
        problems.append(f"changed: {PROVENANCE!a} (its clips name {len(told)} files, its list {len(shown)} of clips)")
    sha256 = sha256_of(folder / PROVENANCE)
    if seal is not None and seal.strip().lower() != sha256:
        problems.append(f"changed: {PROVENANCE!a} (expected the seal {seal}, found {sha256})")
    return Verified(len(record["clips"]), len(hashes), sha256, sorted(problems))


def _entries(folder: Path, parents: Collection[str]) -> Iterator[tuple[str, str]]:
    """All below a folder but its provenance and the folders that files were released in; links are not followed."""
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield relative, "link"
            elif relative != PROVENANCE and relative not in parents:
                yield relative, "extra"


def read_provenance(folder: Path) -> dict[str, Any]:
    """The content of a release's ``provenance.json``.

    Raises:
        InputError: if the folder is no release.
        CorruptFile: if the file cannot be read.
    """
    if not (folder / PROVENANCE).is_file():
        raise InputError(
            f"{folder}: expected a release with {PROVENANCE}, found none; give the folder that was exported"
        )
    record = read_json(folder / PROVENANCE)
    files, clips = record.get("files"), record.get("clips")
    is_whole = (
        record.get("schema") == SCHEMA
        and isinstance(files, dict)
        and all(isinstance(digest, str) for digest in files.values())
        and isinstance(clips, list)
        and all(isinstance(clip, dict) and "clip_id" in clip and _is_names(clip.get("files")) for clip in clips)
    )
    if not is_whole:
        raise CorruptFile(f"{folder / PROVENANCE}: expected the content of {SCHEMA}; export the set again")
    return record


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def files_of(folder: Path, clips: Collection[str]) -> list[str]:
    """The files of a release that show some clips, sorted."""
    return sorted(
        name for clip in read_provenance(folder)["clips"] if clip["clip_id"] in clips for name in clip["files"]
    )
