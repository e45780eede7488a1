import json
from pathlib import Path

import numpy as np
import pytest

import mnemoscope
from mnemoscope.core.errors import OutputConflict
from mnemoscope.models.vae import frame_vae
from tests.cli.conftest import Call
from tests.reference.tiny_audit import drifting, write_clip

IMAGE = ("--space", "image", "--set", "frames.height=32", "--set", "frames.width=32")


@pytest.fixture(scope="module")
def real(call: Call, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encode") / "real"
    done = call("encode", clips / "real", "--out", out, *IMAGE)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{out}: 19 clips, 114 frames of 1 × 32 × 32\n"
    return out


def test_a_store_holds_the_frames(real: Path) -> None:
    store = mnemoscope.LatentStore(real)
    assert np.array_equal(store.clip(store.clips.iloc[4])[:, 0], drifting(4))
    assert store.clips["split"].value_counts().to_dict() == {"train": 10, "holdout": 6, "val": 3}


def test_the_same_call_finds_the_store_and_another_leaves_it_alone(call: Call, clips: Path, real: Path) -> None:
    again = call("encode", clips / "real", "--out", real, *IMAGE, "--json")
    found = {"store": str(real), "clips": 19, "frames": 114, "shape": [1, 32, 32]}
    assert json.loads(again.stdout) == found
    other = call("encode", clips / "real", "--out", real, *IMAGE, "--max-frames", "2")
    assert other.exit_code == 2
    assert "a store of other clips or settings; choose another --out" in other.stderr
    assert mnemoscope.LatentStore(real).n_frames == 114


def test_suspects_take_the_scaling_of_the_real_clips(call: Call, clips: Path, real: Path, tmp_path: Path) -> None:
    out = tmp_path / "synthetic"
    words = ["encode", clips / "synthetic", "--split", "synthetic", "--scaling-from", real, "--out", out, *IMAGE]
    assert call(*words).exit_code == 0
    stores = [mnemoscope.LatentStore(folder) for folder in (real, out)]
    assert stores[0].record.scaling == stores[1].record.scaling
    assert set(stores[1].clips["split"]) == {"synthetic"}


def test_several_folders_become_one_store_from_python(tmp_path: Path) -> None:
    write_clip(tmp_path / "a" / "one.avi", 1)
    write_clip(tmp_path / "b" / "two.avi", 2)
    config = mnemoscope.EncodeConfig(space="image", split="train", max_frames=3, frames={"height": 32, "width": 32})
    seen: list[int] = []
    store = mnemoscope.encode(
        tmp_path / "a",
        str(tmp_path / "b"),
        out=tmp_path / "store",
        config=config,
        progress=lambda stage, done, total, unit: seen.append(done),
    )
    assert store.clips["clip_id"].tolist() == ["one", "two"]
    assert store.n_frames == 6
    assert seen
    assert seen == sorted(seen)
    with pytest.raises(OutputConflict, match="choose another --out"):
        mnemoscope.encode(tmp_path / "a", out=tmp_path / "store", config=config)


def test_a_folder_whose_table_says_no_view_gets_one(call: Call, tmp_path: Path) -> None:
    write_clip(tmp_path / "a" / "one.avi", 1)
    write_clip(tmp_path / "b" / "two.avi", 2)
    write_clip(tmp_path / "b" / "three.avi", 3)
    (tmp_path / "b" / "table.csv").write_text("file,view\ntwo.avi,PSAX\nthree.avi,\n")
    config = mnemoscope.EncodeConfig(space="image", split="train", views={"a": "A4C", "b": "PLAX"})
    store = mnemoscope.encode(tmp_path / "a", tmp_path / "b", out=tmp_path / "store", config=config)
    assert dict(zip(store.clips["clip_id"], store.clips["view"], strict=True)) == {
        "one": "A4C",
        "two": "PSAX",
        "three": "PLAX",
    }
    words = ["encode", tmp_path / "a", "--out", tmp_path / "other", "--set", "views.c=A4C", *IMAGE]
    done = call(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--set views.c: expected the name of a folder that is encoded (a)" in done.stderr


def test_a_broken_clip_ends_with_2_and_its_name_and_the_rest_is_kept(call: Call, tmp_path: Path) -> None:
    write_clip(tmp_path / "a" / "one.avi", 1)
    (tmp_path / "a" / "two.avi").write_bytes(b"no video")
    words = ["encode", tmp_path / "a", "--split", "train", "--out", tmp_path / "store", *IMAGE]
    done = call(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "two.avi" in done.stderr
    assert not (tmp_path / "store" / "store.json").exists()


def test_a_vae_that_half_precision_cannot_hold_is_warned_of_on_record(call: Call, clips: Path, tmp_path: Path) -> None:
    network = frame_vae(channels=(4, 4, 8, 8), norm_groups=2)
    network.encoder.conv_in.weight.data *= 1e7  # normalised away later, infinite in half precision
    network.save_pretrained(tmp_path / "vae")
    size = ("--set", "frames.height=32", "--set", "frames.width=32", "--vae", str(tmp_path / "vae"))
    done = call("encode", clips / "real", "--out", tmp_path / "half", *size, "--set", "precision=fp16")
    assert done.exit_code == 0, done.stderr
    [warning] = json.loads((tmp_path / "half" / "encode.json").read_text())["warnings"]
    assert "NaN or infinite values in torch.float16; such clips are computed in float32" in warning
    call("encode", clips / "real", "--out", tmp_path / "full", *size, "--set", "precision=fp32")
    half, full = (mnemoscope.LatentStore(tmp_path / name).frame_pool() for name in ("half", "full"))
    np.testing.assert_array_equal(half[:], full[:])
