"""What is taken in: all storage SOP classes, all transfer syntaxes that keep pixels in the object."""

from functools import cache

VERIFICATION = "1.2.840.10008.1.1"
_NOT_STORAGE = ("Commitment", "Directory", "Media")
_NEWER_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{last}" for last in ("66.7", "66.8", "9.100.1", "9.100.2")
)
"""Label Map and Height Map Segmentation, photoacoustic images: not in pydicom 3.0's dictionary (2024d)."""
_PIXELS_ELSEWHERE = frozenset(f"1.2.840.10008.1.2.4.{last}" for last in (94, 95, 204, 205))
"""The JPIP Referenced family: the pixels are at an address."""
_NO_DATA_SET = ("1.2.840.10008.1.2.6", "1.2.840.10008.1.2.7")
"""MIME and XML encapsulation; SMPTE streams."""


@cache
def storage_sop_classes() -> frozenset[str]:
    """Storage SOP classes of the standard, the retired ones with them (PS3.4 B.5, PS3.6 Annex A)."""
    from pydicom._uid_dict import UID_dictionary

    named = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and not any(word in name for word in _NOT_STORAGE)
    }
    return frozenset(named) | _NEWER_CLASSES


@cache
def transfer_syntaxes() -> frozenset[str]:
    """Every transfer syntax of the standard, except those that leave pixels elsewhere (PS3.6 Annex A)."""
    from pydicom._uid_dict import UID_dictionary

    named = {uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"}
    return frozenset(
        uid
        for uid in named - _PIXELS_ELSEWHERE
        if uid.startswith("1.2.840.10008.1.2") and not uid.startswith(_NO_DATA_SET)
    ) - {"1.2.840.10008.1.20"}  # Papyrus, which is a file format
