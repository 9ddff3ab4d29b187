"""What the main process must know of the receiver to start it: settings and an entry. No pynetdicom here.

The main process only names the entry; importing pynetdicom and pydicom there would cost it 1 s and 50 MB.
"""

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from serving.config import Dimse, Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """What the receiver process is given."""

    dimse: Dimse
    tenants: tuple[Tenant, ...]
    spool: Path
    min_free_bytes: int
    log_level: str = "INFO"


def receiver_main(settings: ReceiverSettings, connection: Connection) -> None:
    """Run until told to stop or until the main process is gone. The entry of a process."""
    from serving.dicom.receiver import run_receiver

    run_receiver(settings, connection)
