"""The C-STORE and C-ECHO SCP, in a process of its own.

`run_receiver` is that process: it takes associations, writes data sets to the spool as they come, and
answers a C-STORE with success only after the file is durable and the main process has journalled it.
"""

import logging
import os
import signal
import sys
import threading
import time
import warnings
from multiprocessing.connection import Connection
from socketserver import TCPServer

from pynetdicom import AE, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationServer, RequestHandler

from serving.dicom.association import (
    MAX_PDU_BYTES,
    PromptSocket,
    StoreSink,
    StoringAssociation,
    quiet_pynetdicom,
)
from serving.dicom.commands import StoreCommand
from serving.dicom.handover import HandoverClient
from serving.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from serving.dicom.receiver_settings import ReceiverSettings
from serving.dicom.spool import Spool, SpoolFolder, new_association
from serving.dicom.store_sink import SpoolSink
from serving.dicom.syntaxes import VERIFICATION, storage_sop_classes, transfer_syntaxes
from serving.errors import NoCapacity
from serving.tenants.identity import Rejected, identify_peer

_LOG = logging.getLogger(__name__)

ANSWER_S = 30.0
"""How long the journal may take before a C-STORE is answered 'out of resources'. A guess."""
STOP_S = 10.0
"""How long running C-STOREs may take after the stop; then their associations are cut, unacknowledged."""
_SWITCH_S = 0.0005
"""How long a thread keeps the interpreter lock from others: associations let go of it often, and 5 ms (the
default) to get it back is longer than an image takes."""


_REJECTED = {3: "calling-ae-title", 7: "called-ae-title"}
"""The diagnostic of an A-ASSOCIATE-RJ (PS3.8 table 9-21) as the word it is counted under."""


def run_receiver(settings: ReceiverSettings, connection: Connection) -> None:
    """Run until told to stop or until the main process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears it, and says when to stop
    log_format = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=settings.log_level, stream=sys.stderr, format=log_format)
    logging.getLogger("pynetdicom").setLevel(logging.ERROR)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote values
    warnings.simplefilter("ignore")
    quiet_pynetdicom()
    sys.setswitchinterval(_SWITCH_S)
    handover = HandoverClient(connection, timeout_s=ANSWER_S)
    receiver = Receiver(settings, handover)
    threading.Thread(target=handover.run, args=(receiver.stop,), name="answers", daemon=True).start()
    receiver.run()
    connection.close()


class Receiver:
    """The SCP: its server, its associations, and what they share."""

    def __init__(self, settings: ReceiverSettings, handover: HandoverClient) -> None:
        self._settings = settings
        self._handover = handover
        self._spool = Spool(
            settings.spool,
            min_free_bytes=settings.min_free_bytes,
            max_object_bytes=settings.max_object_bytes,
        )
        self._stopping = threading.Event()
        self._wake_fd, self._wakes = os.pipe()
        self._open: dict[StoringAssociation, SpoolFolder] = {}
        self._server = self._listen()

    def run(self) -> None:
        """Take associations until `stop`, then let what runs finish."""
        host, port = self._server.server_address[:2]
        serving = threading.Thread(target=self._server.serve_forever, name="listener", daemon=True)
        serving.start()
        self._handover.listening(str(host), int(port))
        self._stopping.wait()
        self._server.shutdown()
        os.close(self._wakes)  # every waiting association hears the end of the pipe
        deadline = time.monotonic() + STOP_S
        for association in list(self._open):
            association.join(max(0.0, deadline - time.monotonic()))
        for association in list(self._open):
            association.dul.shut()
            association.join(1.0)

    def stop(self) -> None:
        """From any thread."""
        self._stopping.set()

    # --- what associations ask of it: see StoreService ------------------------------------------------------

    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def open_sink(self, assoc: StoringAssociation, context_id: int, command: StoreCommand) -> StoreSink:
        return SpoolSink(
            self._open[assoc],
            self._handover,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=str(assoc._accepted_cx[context_id].transfer_syntax[0]),
        )

    def ended(self, assoc: StoringAssociation) -> None:
        folder = self._open.pop(assoc, None)
        if folder is None:
            return  # never accepted
        folder.close()
        _LOG.info("association %s ended", folder.association)
        try:
            self._handover.closed(folder.association)
        except NoCapacity:
            self.stop()

    # --- listening ------------------------------------------------------------------------------------------

    def _listen(self) -> AssociationServer:
        dimse = self._settings.dimse
        entity = AE(dimse.ae_title)
        entity.maximum_associations = dimse.max_associations
        entity.maximum_pdu_size = MAX_PDU_BYTES
        entity.network_timeout = dimse.idle_timeout_s
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.add_supported_context(VERIFICATION)  # each association replaces this by what its peer proposes
        return entity.make_server(
            (dimse.host, dimse.port),
            evt_handlers=[(evt.EVT_REQUESTED, self._requested)],
            server_class=_Server,
            request_handler=self._handler(),
        )

    def _handler(self) -> type[RequestHandler]:
        receiver = self

        class Handler(RequestHandler):
            def _create_association(self) -> StoringAssociation:
                return receiver._associate(self)

        return Handler

    def _associate(self, handler: RequestHandler) -> StoringAssociation:
        """As RequestHandler does it, with our classes."""
        server, entity = handler.server, handler.ae
        assoc = StoringAssociation(entity, "acceptor", self, self._wake_fd)
        assoc._server = server
        assoc.name = "AcceptorThread"  # what the server knows its associations by
        timeout_s = self._settings.dimse.idle_timeout_s
        assoc.set_socket(PromptSocket(assoc, handler.request, timeout_s=timeout_s))
        assoc.acceptor.maximum_length = entity.maximum_pdu_size
        assoc.acceptor.ae_title = server.ae_title
        assoc.acceptor.address_info = handler.local
        assoc.acceptor.implementation_class_uid = entity.implementation_class_uid
        assoc.acceptor.implementation_version_name = entity.implementation_version_name
        assoc.requestor.address_info = handler.remote
        assoc.bind(evt.EVT_REQUESTED, self._requested)
        assoc.bind(evt.EVT_REJECTED, self._rejected)
        return assoc

    def _requested(self, event: evt.Event) -> None:
        """Decide who it is and what can be agreed on; pynetdicom negotiates with the result."""
        assoc = event.assoc
        assert isinstance(assoc, StoringAssociation)
        request = assoc.requestor.primitive
        assert request is not None
        whose = identify_peer(
            self._settings.tenants,
            self._settings.dimse.ae_title,
            called_ae_title=(request.called_ae_title or "").strip(),
            peer_address=assoc.requestor.address,
        )
        if isinstance(whose, Rejected):
            _LOG.warning("association rejected: %s", whose.message)
            self._handover.not_taken("association", _REJECTED.get(whose.diagnostic, "rejected"))
            assoc.acse.send_reject(whose.result, whose.source, whose.diagnostic)
            assoc.kill()
            return
        assoc.acceptor.supported_contexts = agreeable(request.presentation_context_definition_list)
        folder = self._spool.folder(whose, new_association())
        self._open[assoc] = folder
        _LOG.info("association %s of tenant %s requested", folder.association, whose)

    def _rejected(self, event: evt.Event) -> None:
        """By pynetdicom, of whose reasons only this one can occur here."""
        _LOG.warning("association rejected: there are %d already", self._settings.dimse.max_associations)
        self._handover.not_taken("association", "too-many-associations")


class _Server(AssociationServer):
    request_queue_size = 128
    """Peers that connect at once; the kernel holds them until they are accepted."""

    def shutdown(self) -> None:
        """Take no more connections. (The library's own looks in a list that `make_server` leaves empty.)"""
        TCPServer.shutdown(self)
        self.server_close()


def agreeable(proposed: list[PresentationContext]) -> list[PresentationContext]:
    """Of what a peer proposes, what we take, with its transfer syntaxes in the peer's own order.

    A peer names first what it holds; asking for anything else would make it convert.
    """
    wanted: dict[str, list[str]] = {}
    for context in proposed:
        abstract_syntax = str(context.abstract_syntax)
        if abstract_syntax == VERIFICATION or abstract_syntax in storage_sop_classes():
            wanted.setdefault(abstract_syntax, []).extend(str(uid) for uid in context.transfer_syntax)
    contexts = []
    for abstract_syntax, syntaxes in wanted.items():
        supported = [uid for uid in dict.fromkeys(syntaxes) if uid in transfer_syntaxes()]
        if supported:
            context = PresentationContext()
            context.abstract_syntax = abstract_syntax
            context.transfer_syntax = list(supported)
            contexts.append(context)
    return contexts
