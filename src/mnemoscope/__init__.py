"""mnemoscope: what does a generative model of medical video remember?

The command line's verbs are functions of the same names: ``mnemoscope.audit(real=…, synthetic=…, out=…)``.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "AuditConfig": "mnemoscope.audit.run.settings",
    "AuditResult": "mnemoscope.core.types",
    "CheckConfig": "mnemoscope.cli.check",
    "DemoConfig": "mnemoscope.cli.demo",
    "DownstreamConfig": "mnemoscope.downstream.run",
    "EfConfig": "mnemoscope.cli.train",
    "EncodeConfig": "mnemoscope.cli.encode",
    "ExportConfig": "mnemoscope.cli.release",
    "ImagesConfig": "mnemoscope.cli.sample",
    "LatentStore": "mnemoscope.latents.store",
    "LidmConfig": "mnemoscope.cli.train",
    "LvdmConfig": "mnemoscope.cli.train",
    "MnemoscopeError": "mnemoscope.core.errors",
    "PhantomConfig": "mnemoscope.cli.phantom",
    "ReidConfig": "mnemoscope.cli.train",
    "ReproduceConfig": "mnemoscope.audit.run.reproduce",
    "SelectConfig": "mnemoscope.cli.release",
    "VaeConfig": "mnemoscope.cli.train",
    "VideosConfig": "mnemoscope.cli.sample",
    "check": "mnemoscope.cli.check",
    "compare": "mnemoscope.cli.compare",
    "demo": "mnemoscope.cli.demo",
    "encode": "mnemoscope.cli.encode",
    "load_ef": "mnemoscope.models.ef",
    "load_lidm": "mnemoscope.models.lidm",
    "load_lvdm": "mnemoscope.models.lvdm",
    "load_reid": "mnemoscope.models.reid",
    "load_vae": "mnemoscope.models.vae",
    "release_export": "mnemoscope.cli.release",
    "release_select": "mnemoscope.cli.release",
    "release_verify": "mnemoscope.cli.release",
    "report_figures": "mnemoscope.cli.report",
    "reproduce": "mnemoscope.cli.reproduce",
    "sample_images": "mnemoscope.cli.sample",
    "sample_videos": "mnemoscope.cli.sample",
    "train_ef_model": "mnemoscope.cli.train",
    "train_lidm_model": "mnemoscope.cli.train",
    "train_lvdm_model": "mnemoscope.cli.train",
    "train_reid_model": "mnemoscope.cli.train",
    "train_vae_model": "mnemoscope.cli.train",
    "withdraw": "mnemoscope.cli.withdraw",
}
# Rooms that are also verbs: the package itself can be called.
_ROOMS = ("audit", "downstream", "phantom", "report")

__all__ = [*_PUBLIC, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name in _ROOMS:
        return import_module(f"mnemoscope.{name}")
    raise AttributeError(f"module 'mnemoscope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
