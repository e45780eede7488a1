"""The audit of two folders: files → arrays → numbers → ``audit.json`` and its tables."""

from mnemoscope.audit.run.pipeline import run_audit
from mnemoscope.audit.run.results import Finished
from mnemoscope.audit.run.settings import AuditConfig

__all__ = ["AuditConfig", "Finished", "run_audit"]
