"""One result to one destination by C-STORE, and how long to wait after a failure."""

from pathlib import Path

from serving.config import Destination

MAX_BACKOFF_S = 300.0
_CONNECT_S = 5.0
"""Until the TCP connection stands: a server that is told to stop waits for it."""
_TIMEOUT_S = 30.0
"""For the association, and for each answer. A guess: archives that index while storing take seconds."""


class DeliveryFailed(Exception):
    """This attempt did not deliver; the message says why, without patient data."""


def backoff_s(destination: Destination, attempts: int) -> float:
    """How long to wait after so many earlier failed attempts: doubling, up to 5 minutes."""
    return min(destination.backoff_s * 2.0 ** min(attempts, 32), MAX_BACKOFF_S)


def send_file(path: str | Path, destination: Destination) -> None:
    """C-STORE one DICOM file in its own transfer syntax. Blocks; run it in a thread.

    Raises: DeliveryFailed; a status of class Warning (0xB000 and the like) counts as taken (PS3.4 B.2.3).
    """
    from pydicom import dcmread
    from pynetdicom import AE

    dataset = dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    entity = AE(ae_title=destination.calling_ae_title)
    entity.add_requested_context(dataset.SOPClassUID, syntax)
    entity.connection_timeout = _CONNECT_S
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
    association = entity.associate(destination.host, destination.port, ae_title=destination.ae_title)
    if not association.is_established:
        reason = "rejected the association" if association.is_rejected else "does not answer"
        if association.acceptor.primitive is not None and not association.is_rejected:
            reason = "accepts no such SOP class in this transfer syntax"
        raise DeliveryFailed(f"{destination.ae_title} at {destination.host}:{destination.port} {reason}")
    try:
        status = association.send_c_store(dataset)
    except (ValueError, RuntimeError) as error:
        raise DeliveryFailed(f"{destination.ae_title} does not take this object: {error}") from error
    finally:
        association.release()
    code = status.get("Status")
    if code is None:
        raise DeliveryFailed(f"{destination.ae_title} closed the connection without an answer")
    if code != 0x0000 and code & 0xF000 != 0xB000:
        raise DeliveryFailed(f"{destination.ae_title} answered status 0x{code:04X}")
