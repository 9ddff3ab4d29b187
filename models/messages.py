"""What may stand in a message of what a sender wrote."""

import re


def code_in_message(text: str, default: str = "empty") -> str:
    """A code string of the standard (value representation CS, PS3.5 6.2), fit for messages and logs.

    Whatever is none, and may be of any length or a patient's name, becomes "not a code"; nothing, `default`.
    """
    if not text:
        return default
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else "not a code"
