"""Why a request is refused: one small tree for both protocols; `serving/answers.py` has the answer to each.

RequestError
├── BadRequest               the request itself cannot be read (400)
├── NotAuthenticated         no valid key, where one is needed
├── NotFound                 this tenant has no such object
├── NotAcceptable            none of the media types the client takes can be given
├── MediaTypeUnsupported     a body (or a part of it) of another kind than DICOM
├── TooLarge                 beyond a configured limit; sending it again will not help
├── TimedOut                 the client stopped sending in the middle
├── NoCapacity               no disk, no time, no journal: sending it again later will help
├── BadDataset               the data set cannot be understood; `tag` names the element
├── DatasetMismatch          the data set contradicts the request that carries it
├── SopClassUnsupported      no such storage SOP class here
├── TransferSyntaxUnsupported  an encoding that we could not even read the header of
└── DuplicateDiffers         this SOP Instance UID is that of a result made here, with other bytes

Messages are one sentence that names tags, values, limits, and never a patient.
"""

import re


class RequestError(Exception):
    """Root of everything a peer or a client is refused for."""

    def __init__(self, message: str, *, tag: int | None = None) -> None:
        self.message = message
        self.tag = tag
        """The offending element, (group << 16) + element, where there is one."""
        super().__init__(message)

    @property
    def reason(self) -> str:
        """Its kind as a word for metrics: no-capacity."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(self).__name__).lower()


class BadRequest(RequestError):
    """The request cannot be read: its headers, its path or its multipart framing."""


class NotAuthenticated(RequestError):
    """No API key, or one that nobody has."""


class NotFound(RequestError):
    """The tenant has no such study, series or instance. Another tenant's look the same as none."""


class NotAcceptable(RequestError):
    """The client's Accept header leaves nothing that can be given."""


class MediaTypeUnsupported(RequestError):
    """The body is not of a media type that can be stored."""


class TooLarge(RequestError):
    """Larger than a configured limit."""


class TimedOut(RequestError):
    """The client was silent for too long in the middle of its request."""


class NoCapacity(RequestError):
    """Out of resources now; the sender may try again."""


class BadDataset(RequestError):
    """The data set cannot be understood, or lacks an element without which it cannot be kept."""


class DatasetMismatch(RequestError):
    """The data set says something else than the request it came with."""


class SopClassUnsupported(RequestError):
    """Not a storage SOP class that is kept here."""


class TransferSyntaxUnsupported(RequestError):
    """An encoding that is not known here."""


class DuplicateDiffers(RequestError):
    """The SOP Instance UID is taken by a result made here that has other bytes."""
