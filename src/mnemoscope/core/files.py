"""Files that appear whole or not at all, and fingerprints of what they hold."""

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from mnemoscope.core.errors import CorruptFile, OutOfSpace

_BLOCK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# safetensors and torch raise errors of their own, which carry no number.
_SAYS_FULL = re.compile(r"No space left on device|os error (28|122|27)\b|File too large")


def file_fingerprint(path: Path) -> str:
    """Hex digest (BLAKE2b, 128 bit) of a file's bytes."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_fingerprint(value: Any) -> str:
    """Hex digest of a JSON-able value (paths and NumPy scalars count as such); key order does not matter.

    Raises:
        TypeError: for anything else: the text of an array or a set does not say what it holds.
    """
    text = json.dumps(value, sort_keys=True, default=_plain, allow_nan=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, PurePath):
        return value.as_posix()
    if getattr(value, "shape", None) == ():
        return value.item()
    raise TypeError(
        f"expected JSON values to fingerprint, found {type(value).__name__}: fingerprint its content instead"
    )


def folder_fingerprint(folder: Path, *, pattern: str = "**/*") -> str:
    """Hex digest of the names and contents of a folder's files, independent of directory order."""
    files = sorted(p for p in folder.glob(pattern) if p.is_file())
    return value_fingerprint({p.relative_to(folder).as_posix(): file_fingerprint(p) for p in files})


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns "no space left" into :class:`OutOfSpace` with the place and the remedy, also where a library words it."""
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) not in _FULL and not _SAYS_FULL.search(str(error)):
            raise
        raise OutOfSpace(
            f"{path}: the disk is full; what was finished before stays. Free space, lift the limit on file sizes "
            f"(ulimit -f) or choose another --out, and run the same command again"
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary sibling to write to; it takes the name ``path`` only when the block ends well."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling folder to fill; it replaces ``path`` only when the block ends well."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with disk_errors(path):
            temporary.mkdir(parents=True)
            yield temporary
            replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(source: Path, target: Path) -> None:
    """Gives ``source`` the name ``target``; an older ``target`` goes only after the new one stands ready."""
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    if target.exists():
        os.replace(target, old)
    os.replace(source, target)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON whole: sorted nowhere, indented, NaN refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CorruptFile: if the file is missing, unreadable, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{path}: expected a readable JSON file, got: {error}") from error
    if not isinstance(value, dict):
        raise CorruptFile(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
