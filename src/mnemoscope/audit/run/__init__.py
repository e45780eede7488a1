"""The audit of two folders: files → arrays → numbers → ``audit.json`` and its tables."""

from mnemoscope.audit.run.pipeline import Finished, run_audit
from mnemoscope.audit.run.settings import AuditConfig

__all__ = ["AuditConfig", "Finished", "run_audit"]
