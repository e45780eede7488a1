"""Generators on disk: a diffusers ``unet/`` and ``scheduler/`` folder, and what they were trained on beside them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from diffusers import DDPMScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mnemoscope.core.errors import CorruptFile, InputError, Mismatch
from mnemoscope.core.files import folder_fingerprint, read_json, whole_folder, write_json
from mnemoscope.latents.scaling import Scaling
from mnemoscope.latents.store import LatentStore

Kind = Literal["lidm", "lvdm"]
RECORD_FILE = "generator.json"
BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
_FORMAT = "mnemoscope.generator/1"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
UNFIT = (KeyError, OSError, RuntimeError, TypeError, ValueError, SafetensorError)


EF_TOLD = np.arange(5.0, 100.0, 10.0)


@dataclass(frozen=True)
class GeneratorRecord:
    """What a generator was trained on; sampling follows it, and a store that differs is refused.

    Attributes:
        kind: ``lidm`` (images) or ``lvdm`` (videos).
        frame_shape: (C, h, w) of a latent.
        height: of the decoded frames, pixels.
        width: of the decoded frames, pixels.
        encoder: fingerprint of the VAE.
        scaling: the train store's constants; the network sees latents of mean 0 and standard deviation 1.
        classes: the names of the classes, in the order of their numbers; () without classes.
        fps: frames per second of the videos; None for images.
        window_frames: frames the network was trained on at once; None for images.
        motion_std: the video model's clips are their shown frame plus motion times this; None: they are latents as they
            are.
        ef_quantiles: EF of the train clips at 0, 5, … 100 %, in percent; () for images.
        guidance: weight of the EF that sampling uses where none is asked for; 1 is the model itself.
        ef_shown: EF that videos of this guidance show when the model is told 5, 15, … 95 %, in percent and rising;
            sampling tells it the EF that will show what was asked for. () tells it what was asked for.
        ef_shown_joined: the same of clips joined of several windows; () is ``ef_shown``.
    """

    kind: Kind
    frame_shape: tuple[int, int, int]
    height: int
    width: int
    encoder: str
    scaling: Scaling
    classes: tuple[str, ...] = ()
    fps: float | None = None
    window_frames: int | None = None
    motion_std: float | None = None
    ef_quantiles: tuple[float, ...] = ()
    guidance: float = 1.0
    ef_shown: tuple[float, ...] = ()
    ef_shown_joined: tuple[float, ...] = ()

    def require_store(self, store: LatentStore, *, what: str) -> None:
        """Refuses latents that the network cannot read.

        Raises:
            Mismatch: for other channels, sizes, VAE or scaling, with both.
        """
        self.require_latents(store, what=what)
        store.require_scaling(self.scaling, owner=what)

    def require_latents(self, store: LatentStore, *, what: str) -> None:
        """Refuses latents of another VAE or size; their scaling constants may be others.

        Raises:
            Mismatch: with both.
        """
        for name, found, expected in (
            ("latents of shape", store.frame_shape, self.frame_shape),
            ("latents of the VAE", store.record.encoder, self.encoder),
        ):
            if found != expected:
                raise Mismatch(
                    f"{store.folder}: expected {name} {expected} as {what} was trained on, found {found}; encode "
                    f"the clips with that VAE and size (mnemoscope encode --vae …)"
                )

    def ef_to_tell(self, ef: np.ndarray, *, n_frames: int) -> np.ndarray:
        """The EF to tell the model so that its videos of ``n_frames`` show ``ef``, both in percent."""
        joined = self.ef_shown_joined if n_frames != self.window_frames else ()
        shown = joined or self.ef_shown
        return np.interp(ef, shown, EF_TOLD) if shown else ef

    def to_json(self) -> dict[str, Any]:
        """The content of ``generator.json``."""
        return {"format": _FORMAT} | asdict(self) | {"scaling": self.scaling.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "GeneratorRecord":
        """The inverse of :meth:`to_json`."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        if fields.pop("format") != _FORMAT:
            raise ValueError(f"format {values['format']!r}, not {_FORMAT!r}")
        for name in ("ef_shown", "ef_shown_joined"):
            shown = fields.get(name, ())
            if shown and (len(shown) != len(EF_TOLD) or np.any(np.diff(shown) <= 0)):
                raise ValueError(f"{name} {shown}, not {len(EF_TOLD)} rising values")
        return cls(**fields | {"scaling": Scaling.from_json(values["scaling"])})


def noise_schedule() -> Any:
    """1000 linear steps from 1e-4 to 0.02, v-prediction, samples within ±4.

    Source: Dombrowski et al. 2024, section 3 (LIDM); Salimans & Ho 2022 for v.
    """
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=True,
        clip_sample_range=4.0,
        timestep_spacing="trailing",
    )


def save_generator(folder: Path, unet: Any, record: GeneratorRecord) -> None:
    """Writes ``unet/``, ``scheduler/`` and ``generator.json``; the folder appears whole."""
    with whole_folder(folder) as temporary:
        unet.save_config(temporary / "unet")
        state = {name: value.detach().cpu().contiguous() for name, value in nn.Module.state_dict(unet).items()}
        save_file(state, temporary / "unet" / _WEIGHTS)
        noise_schedule().save_pretrained(temporary / "scheduler")
        write_json(temporary / RECORD_FILE, record.to_json())


def generator_folder(name: str | Path, kind: Kind) -> Path:
    """The folder of a model: ``bundled``, or a path.

    Raises:
        InputError: if there is none of this kind.
    """
    folder = BUNDLED_FOLDER / kind if str(name) == BUNDLED else Path(name)
    if not (folder / RECORD_FILE).is_file():
        raise InputError(
            f"{name}: expected 'bundled' or a folder with {RECORD_FILE} and unet/ of a {kind}, found none; "
            f"train one (mnemoscope train {kind})"
        )
    return folder


def read_record(folder: Path, kind: Kind) -> GeneratorRecord:
    """The record of a generator.

    Raises:
        CorruptFile: if it is damaged.
        InputError: if it is of the other kind.
    """
    values = read_json(folder / RECORD_FILE)
    try:
        record = GeneratorRecord.from_json(values)
    except UNFIT as error:
        raise CorruptFile(
            f"{folder / RECORD_FILE}: expected a generator's record, found: {error}; train it again"
        ) from error
    if record.kind != kind:
        raise InputError(f"{folder}: expected a {kind}, found a {record.kind}; choose another folder")
    return record


def load_weights(network: nn.Module, folder: Path, *, beside: Mapping[str, Tensor] | None = None) -> None:
    """Loads ``unet/`` into a network; weights in half precision become float32. ``beside`` are weights it lacks.

    Raises:
        CorruptFile: if they are damaged or do not fit.
    """
    path = folder / "unet" / _WEIGHTS
    try:
        network.load_state_dict({name: value.float() for name, value in load_file(path).items()} | dict(beside or {}))
    except UNFIT as error:
        raise CorruptFile(f"{path}: expected weights that fit the network, found: {error}; train it again") from error


def require_sizes(folder: Path, unet: Any, sizes: Mapping[str, int | None]) -> None:
    """Refuses a network of other sizes than its record says, as two folders mixed up would give.

    Args:
        folder: of the generator.
        unet: the network that was read.
        sizes: keys of its configuration with the values that follow from the record.

    Raises:
        CorruptFile: naming them.
    """
    wrong = {key: unet.config[key] for key, value in sizes.items() if unet.config[key] != value}
    if wrong:
        expected = {key: sizes[key] for key in wrong}
        raise CorruptFile(
            f"{folder}: {RECORD_FILE} belongs to a network with {expected}, unet/config.json says {wrong}; "
            f"bring the folders together again, or train it again"
        )


def generator_fingerprint(folder: Path) -> str:
    """Digest of a generator's configuration and weights."""
    return folder_fingerprint(folder)
