"""One C-STORE's way: its data set to the spool, its header read, its file durable, its journal entry made."""

import logging
import mmap
from pathlib import Path

from serving.answers import PROCESSING_FAILURE, SUCCESS, answer_for
from serving.dicom.handover import Accepted, HandoverClient, Refused
from serving.dicom.instance import Header, check_agrees, read_header, received_instance
from serving.dicom.part10 import file_beginning
from serving.dicom.spool import Incoming, SpoolFolder
from serving.errors import RequestError

_LOG = logging.getLogger(__name__)


class SpoolSink:
    """Takes the data set of one C-STORE request; see StoreSink. After a failure it drops the rest."""

    def __init__(
        self,
        folder: SpoolFolder,
        handover: HandoverClient,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
    ) -> None:
        self._folder = folder
        self._handover = handover
        self._sop_class_uid = sop_class_uid
        self._sop_instance_uid = sop_instance_uid
        self._transfer_syntax_uid = transfer_syntax_uid
        self._incoming: Incoming | None = None
        self._failure: RequestError | None = None
        self._journal_refused = False
        """It is counted where the journal is."""
        beginning = file_beginning(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
        )
        self._data_set_at = len(beginning)
        try:
            self._incoming = folder.begin()
            self._incoming.write(beginning)
        except RequestError as error:
            self._fail(error)

    def write(self, data: memoryview) -> None:
        """Take the next bytes."""
        if self._incoming is not None:
            try:
                self._incoming.write(data)
            except RequestError as error:
                self._fail(error)

    def discard(self) -> None:
        """Leave nothing of it."""
        if self._incoming is not None:
            self._incoming.discard()
            self._incoming = None

    def finish(self) -> tuple[int, str, int | None]:
        """Status, error comment and offending element of the C-STORE response."""
        try:
            self._keep()
        except RequestError as error:
            _LOG.warning("C-STORE refused in %s: %s", self._folder.association, error.message)
            if not self._journal_refused:
                self._handover.not_taken("image", error.reason)
            return answer_for(error).dimse, error.message, error.tag
        except Exception as error:  # ours, but the peer must have its answer and the others their service
            _LOG.error("C-STORE failed in %s: %s", self._folder.association, type(error).__name__)
            self._handover.not_taken("image", "processing-failure")
            return PROCESSING_FAILURE, "Processing failure.", None
        finally:
            self.discard()
        return SUCCESS, "", None

    def _keep(self) -> None:
        if self._failure is not None or self._incoming is None:
            raise self._failure or RequestError("The data set was discarded.")
        header = self._header(self._incoming)
        check_agrees(header, sop_class_uid=self._sop_class_uid, sop_instance_uid=self._sop_instance_uid)
        file = self._incoming.finish()
        outcome = self._handover.offer(
            received_instance(
                header,
                tenant=self._folder.tenant,
                transfer_syntax_uid=self._transfer_syntax_uid,
                path=str(file.path),
                digest=file.digest,
                size=file.size,
                source="dimse",
                association=self._folder.association,
            )
        )
        if outcome != Accepted():
            Path(file.path).unlink(missing_ok=True)
        if isinstance(outcome, Refused):
            self._journal_refused = True
            raise outcome.as_error()

    def _header(self, incoming: Incoming) -> Header:
        with mmap.mmap(incoming.fileno(), incoming.size, prot=mmap.PROT_READ) as data:
            return read_header(data, self._transfer_syntax_uid, self._data_set_at)

    def _fail(self, error: RequestError) -> None:
        self._failure = error
        self.discard()
