import os
import shutil
from pathlib import Path

import pytest

from mnemoscope.core.errors import CorruptFile, InputError
from mnemoscope.core.files import read_json, write_json
from mnemoscope.release.audited import read_audited
from mnemoscope.release.export import ExportConfig, Exported, export
from mnemoscope.release.verify import files_of, verify
from tests.release.audits import Made


@pytest.fixture
def done(passed: Made) -> Exported:
    return export(read_audited(passed.run), passed.clips, passed.run.parent / "out", ExportConfig(), decisions={})


def test_a_whole_folder_passes_wherever_it_lies(done: Exported, tmp_path: Path) -> None:
    shutil.copytree(done.out, tmp_path / "elsewhere")
    found = verify(tmp_path / "elsewhere", seal=done.sha256.upper())
    assert (found.clips, found.files, found.sha256, found.problems) == (6, 10, done.sha256, [])


def test_every_change_is_listed_at_once(done: Exported) -> None:
    out = done.out
    (out / "Videos" / "s0.avi").unlink()
    (out / "Videos" / "s1.avi").write_bytes((out / "Videos" / "s2.avi").read_bytes())
    with (out / "README.md").open("a") as file:
        file.write(" ")
    (out / "Videos" / "new\n.avi").write_bytes(b"")
    (out / ".hidden").write_bytes(b"")
    (out / "empty").mkdir()
    os.replace(out / "Videos" / "s3.avi", out / "s3.avi")
    os.symlink(out / "s3.avi", out / "Videos" / "s3.avi")
    assert verify(out).problems == [
        "changed: 'README.md'",
        "changed: 'Videos/s1.avi'",
        "extra: '.hidden'",
        r"extra: 'Videos/new\n.avi'",
        "extra: 'empty'",
        "extra: 's3.avi'",
        "link: 'Videos/s3.avi'",
        "missing: 'Videos/s0.avi'",
    ]


def test_a_provenance_written_anew_is_known_by_its_seal(done: Exported) -> None:
    record = read_json(done.out / "provenance.json")
    (done.out / "Videos" / "s0.avi").unlink()
    del record["files"]["Videos/s0.avi"]
    write_json(done.out / "provenance.json", record)
    assert verify(done.out).problems == ["changed: 'provenance.json' (its clips name 6 files, its list 5 of clips)"]
    record["clips"] = [clip for clip in record["clips"] if clip["clip_id"] != "s0"]
    write_json(done.out / "provenance.json", record)
    assert verify(done.out).problems == []
    with pytest.raises(InputError, match="--seal: expected the 64 hexadecimal digits"):
        verify(done.out, seal=done.sha256[:-1])
    (problem,) = verify(done.out, seal=f" {done.sha256}").problems
    assert problem.startswith("changed: 'provenance.json' (expected the seal")


def test_a_hostile_provenance_opens_no_file_outside(done: Exported, tmp_path: Path) -> None:
    record = read_json(done.out / "provenance.json")
    (tmp_path / "secret").write_text("secret")
    record["files"] |= {"../secret": "0", str(tmp_path / "secret"): "0", "Videos": "0", ".": "0"}
    write_json(done.out / "provenance.json", record)
    assert [problem for problem in verify(done.out).problems if "missing" not in problem] == []
    assert len(verify(done.out).problems) == 4


@pytest.mark.parametrize("made", ["nothing", "clips alone"])
def test_no_release_is_refused(tmp_path: Path, made: str) -> None:
    if made == "clips alone":
        (tmp_path / "x" / "Videos").mkdir(parents=True)
    with pytest.raises(InputError, match=r"expected a release with provenance.json"):
        verify(tmp_path / "x")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"schema": "mnemoscope.release/1", "files": {"a": 1}, "clips": []}',
        '{"schema": "mnemoscope.release/1", "files": {}, "clips": [{"clip_id": "a", "files": 3}]}',
        '{"schema": "mnemoscope.release/1", "files": {}, "clips": [{"clip_id": "a", "files": [3]}]}',
    ],
)
def test_a_damaged_provenance_is_refused(done: Exported, content: str) -> None:
    (done.out / "provenance.json").write_text(content)
    with pytest.raises(CorruptFile, match=r"provenance.json"):
        verify(done.out)


def test_files_of_some_clips(done: Exported) -> None:
    assert files_of(done.out, {"s4", "s1", "nobody"}) == ["Videos/s1.avi", "Videos/s4.avi"]
