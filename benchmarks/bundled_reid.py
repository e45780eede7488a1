"""Puts a trained re-identification model into the package as the weights that later trainings begin with.

    for view in a4c ped_a4c psax; do
      mnemoscope phantom runs/reid/$view --view $view --patients 2500 --clips-per-patient 2 --frames 4 --fps 4 \\
        --val-share 0.04 --holdout-share 0 --seed 101
    done
    mnemoscope encode runs/reid/a4c runs/reid/ped_a4c runs/reid/psax --out runs/reid/clean
    mnemoscope encode runs/reid/a4c runs/reid/ped_a4c runs/reid/psax --altered-frames 4 \\
      --scaling-from runs/reid/clean --out runs/reid/altered
    mnemoscope train reid --store runs/reid/clean --altered runs/reid/altered --out runs/reid/run \\
      --config src/mnemoscope/models/bundled/reid/training.yaml
    python -m benchmarks.bundled_reid runs/reid/run/reid

Weights are rounded to half precision, which halves the file; the script says what that changes.
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mnemoscope.models.reid import BUNDLED_FOLDER, CONFIG_FILE, WEIGHTS_FILE


def run(trained: Path) -> None:
    """Copies configuration and log, and writes the rounded weights."""
    BUNDLED_FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.copy(trained / "model" / CONFIG_FILE, BUNDLED_FOLDER / CONFIG_FILE)
    shutil.copy(trained / "training" / "log.csv", BUNDLED_FOLDER / "log.csv")
    state = load_file(trained / "model" / WEIGHTS_FILE)
    rounded = {name: value.half() if value.dtype == torch.float32 else value for name, value in state.items()}
    error = max(float((rounded[n].float() - v.float()).abs().max()) for n, v in state.items())
    save_file(rounded, BUNDLED_FOLDER / WEIGHTS_FILE)
    size_mb = (BUNDLED_FOLDER / WEIGHTS_FILE).stat().st_size / 1e6
    print(f"{BUNDLED_FOLDER / WEIGHTS_FILE}: {size_mb:.1f} MB, largest rounding error {error:.2g}")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
