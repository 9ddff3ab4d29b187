"""C-STORE as a modality does it: one association, all images of a series."""

from collections.abc import Callable, Sequence
from io import BytesIO
from time import perf_counter, sleep

from loadtest.studies import Instance

SUCCESS = 0x0000
_WARNINGS = range(0xB000, 0xC000)
_TIMEOUT_S = 60.0


class NotStored(Exception):
    """The peer refused the association or an image, or went away. Carries no patient data."""


def send_by_cstore(
    instances: Sequence[Instance],
    host: str,
    port: int,
    *,
    called_ae_title: str = "LIGHTBOX",
    calling_ae_title: str = "LOADTEST",
    stored: Callable[[], None] = lambda: None,
) -> list[float]:
    """Send `instances` in one association; seconds that each took from request to response.

    stored: called after each. Raises: NotStored.
    """
    from pydicom import dcmread
    from pynetdicom import AE
    from pynetdicom.presentation import build_context

    ae = AE(ae_title=calling_ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _TIMEOUT_S
    ae.maximum_pdu_size = 0
    kinds = sorted({(i.sop_class_uid, i.transfer_syntax_uid) for i in instances})
    ae.requested_contexts = [build_context(sop_class, syntax) for sop_class, syntax in kinds][:128]
    association = ae.associate(host, port, ae_title=called_ae_title)
    if not association.is_established:
        raise NotStored(f"{host}:{port} takes no association from {calling_ae_title} to {called_ae_title}")
    seconds = []
    try:
        for number, instance in enumerate(instances, 1):
            while association._is_paused and association.is_established:
                sleep(0.0002)  # pynetdicom's own thread wakes late, and would take the next answer
            began = perf_counter()
            try:
                status = association.send_c_store(dcmread(BytesIO(instance.data)))
            except ValueError as error:  # no accepted context, or the association has ended
                raise NotStored(f"image {number} of {len(instances)}: {error}") from None
            code = status.get("Status")
            if code is None:
                raise NotStored(f"image {number} of {len(instances)}: no answer within {_TIMEOUT_S:g} s")
            if code != SUCCESS and code not in _WARNINGS:
                comment = status.get("ErrorComment", "")
                raise NotStored(f"image {number} of {len(instances)}: status 0x{code:04X} {comment}".rstrip())
            seconds.append(perf_counter() - began)
            stored()
    finally:
        association.release()  # nothing, if it has ended already
    return seconds
