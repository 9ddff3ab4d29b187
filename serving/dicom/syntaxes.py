"""What is taken in: all storage SOP classes, all transfer syntaxes that keep pixels in the object."""

from functools import cache

VERIFICATION = "1.2.840.10008.1.1"
_NOT_STORAGE = ("Commitment", "Directory", "Media")
_PIXELS_ELSEWHERE = frozenset(f"1.2.840.10008.1.2.4.{last}" for last in (94, 95, 204, 205))
"""The JPIP Referenced family: the pixels are at an address."""
_NO_DATA_SET = ("1.2.840.10008.1.2.6", "1.2.840.10008.1.2.7")
"""MIME and XML encapsulation; SMPTE streams."""


@cache
def storage_sop_classes() -> frozenset[str]:
    """Storage SOP classes of the standard, the retired ones with them (PS3.4 B.5, PS3.6 Annex A)."""
    from pydicom._uid_dict import UID_dictionary
    from pynetdicom import AllStoragePresentationContexts

    named = {
        uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and not any(word in name for word in _NOT_STORAGE)
    }
    return frozenset(named | {str(context.abstract_syntax) for context in AllStoragePresentationContexts})


@cache
def transfer_syntaxes() -> frozenset[str]:
    """Every transfer syntax of the standard, except those that leave pixels elsewhere (PS3.6 Annex A)."""
    from pydicom._uid_dict import UID_dictionary
    from pynetdicom import ALL_TRANSFER_SYNTAXES

    named = {uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax"}
    named |= {str(uid) for uid in ALL_TRANSFER_SYNTAXES}
    return frozenset(
        uid
        for uid in named - _PIXELS_ELSEWHERE
        if uid.startswith("1.2.840.10008.1.2") and not uid.startswith(_NO_DATA_SET)
    ) - {"1.2.840.10008.1.20"}  # Papyrus, which is a file format
