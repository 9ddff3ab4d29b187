"""What the receiver process is given; checked configuration, nothing to import."""

from dataclasses import dataclass
from pathlib import Path

from serving.config import Dimse, Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """What the receiver process is given."""

    dimse: Dimse
    tenants: tuple[Tenant, ...]
    spool: Path
    min_free_bytes: int
    max_object_bytes: int
    log_level: str = "INFO"
