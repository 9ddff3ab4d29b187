"""What each RequestError is answered: the only file that knows both protocols.

DIMSE statuses: PS3.4 table B.2-1 and PS3.7 9.1.1.1.9; the same codes are the Failure Reasons of STOW-RS
(PS3.18 Annex I). HTTP statuses: PS3.18 8.5 and table 10.5.3-1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from serving import errors
from serving.errors import RequestError

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
"""PS3.7 C.5.10: ours to mend; used for whatever is no RequestError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One refusal in both protocols."""

    http: int
    dimse: int


ANSWERS: Mapping[type[RequestError], Answer] = {
    RequestError: Answer(http=500, dimse=PROCESSING_FAILURE),
    errors.BadRequest: Answer(http=400, dimse=0xC000),
    errors.NotAuthenticated: Answer(http=401, dimse=0x0124),
    errors.NotFound: Answer(http=404, dimse=0x0112),
    errors.NotAcceptable: Answer(http=406, dimse=PROCESSING_FAILURE),
    errors.MediaTypeUnsupported: Answer(http=415, dimse=0xC000),
    errors.TooLarge: Answer(http=413, dimse=0xA700),
    errors.TimedOut: Answer(http=408, dimse=PROCESSING_FAILURE),
    errors.NoCapacity: Answer(http=503, dimse=0xA700),
    errors.BadDataset: Answer(http=409, dimse=0xC000),
    errors.DatasetMismatch: Answer(http=409, dimse=0xA900),
    errors.SopClassUnsupported: Answer(http=409, dimse=0x0122),
    errors.DuplicateDiffers: Answer(http=409, dimse=0x0111),
    errors.TransferSyntaxUnsupported: Answer(http=409, dimse=0xC122),
}

BY_NAME: Mapping[str, type[RequestError]] = {kind.__name__: kind for kind in ANSWERS}
"""The leaves by name, for errors that travel between processes."""


def answer_for(error: RequestError) -> Answer:
    """The answer of the nearest class that has one."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
