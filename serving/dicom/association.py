"""An association in one thread that waits on its socket: pynetdicom's protocol without its polling.

pynetdicom runs two threads an association, and both sleep a millisecond a turn: about 2 ms an image, and a
whole core for 50 idle associations. The classes here keep its state machine, PDUs and negotiation, and
replace only what waits: `SocketDrivenDul` is turned by the association's own thread, `PromptSocket`
acknowledges at once, `StoringDimse` lets the data set of a C-STORE stream into a sink. They reach pynetdicom
through the `server_class` and `request_handler` that `AE.make_server` takes.
"""

import logging
import select
import socket
import time
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pynetdicom import _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_P_ABORT, P_DATA
from pynetdicom.transport import AssociationSocket

from serving.dicom.commands import StoreCommand, store_command, store_response

_LOG = logging.getLogger(__name__)

MAX_PDU_BYTES = 1 << 17
"""What we say we take (PS3.8 D.1); dcmtk sends no larger ones. Above it nothing was gained (NOTES.md)."""
PDU_LIMIT_BYTES = 1 << 20
"""A peer that announces more is cut off. An A-ASSOCIATE-RQ may be longer than a P-DATA-TF, but not so."""
COMMAND_LIMIT_BYTES = 1 << 16
"""A longer command set is cut off: the two UIDs of a C-STORE make it some 200 bytes (PS3.7 9.3.1)."""
UNANSWERED_LIMIT = 16
"""Messages of one peer that wait for their answers. Without negotiation 1 is allowed (PS3.7 D.3.3.3)."""
CLOSING_S = 2.0
"""How long the peer has to close its end after a release, a reject or an abort. A guess."""
_IDLE_TURN_S = 1.0
"""The longest wait for the socket: how late timers are noticed."""


class Misused(Exception):
    """A peer that breaks the protocol in a way that would cost us memory; its association ends."""


class StoreSink(Protocol):
    """Where the data set of one C-STORE request goes."""

    def write(self, data: memoryview) -> None:
        """Take the next bytes. Must not raise: what goes wrong is for `finish` to say."""

    def finish(self) -> tuple[int, str, int | None]:
        """The data set is complete. Returns: status, error comment, offending element."""

    def discard(self) -> None:
        """The association ended before."""


@dataclass(slots=True)
class StoreRequest:
    """A C-STORE request whose data set has gone, or is going, into a sink."""

    command: StoreCommand
    context_id: int
    sink: StoreSink


class PromptSocket(AssociationSocket):
    """The accepted socket. Reads in large pieces, and acknowledges them at once.

    A sender with Nagle's algorithm on (dcmtk's default) holds the last piece of a PDU back until the piece
    before is acknowledged, which Linux delays by 40 ms unless TCP_QUICKACK is set; it does not stay set.
    """

    def __init__(self, assoc: Association, client_socket: socket.socket, *, timeout_s: float) -> None:
        super().__init__(assoc, client_socket=client_socket)
        client_socket.settimeout(timeout_s)
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait(self, timeout_s: float, wake_fd: int) -> bool:
        """Wait for bytes, the end of the connection, or `wake_fd`. Returns: whether to read."""
        if self.socket is None:
            return False
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if wake_fd >= 0:
            poll.register(wake_fd, select.POLLIN)
        own = self.socket.fileno()
        return any(fd == own for fd, _ in poll.poll(max(timeout_s, 0) * 1000))

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly so many bytes, or fewer at the end of the connection.

        Raises: OSError if the peer announced an absurd length, or is silent for too long.
        """
        if nr_bytes > PDU_LIMIT_BYTES:
            raise OSError(f"a PDU of {nr_bytes} bytes was announced; the limit is {PDU_LIMIT_BYTES}")
        sock = cast(socket.socket, self.socket)
        received, buffer = 0, bytearray(nr_bytes)
        with memoryview(buffer) as view:
            while received < nr_bytes:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                count = sock.recv_into(view[received:])
                if not count:
                    break
                received += count
        del buffer[received:]
        return buffer


class SocketDrivenDul(DULServiceProvider):
    """The upper layer's state machine, turned by whoever waits for it; its thread is never started."""

    def __init__(self, assoc: Association, wake_fd: int) -> None:
        super().__init__(assoc)
        self.wake_fd = wake_fd
        """Ends a wait when it becomes readable; -1: none."""

    def start(self) -> None:
        """In place of starting a thread."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()

    def is_alive(self) -> bool:
        """Whether the state machine may still be turned."""
        return not self._kill_thread

    def send_pdu(self, primitive: Any) -> None:
        """Send at once, in the caller's thread."""
        super().send_pdu(primitive)
        self._act()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """The next primitive for the service user, turning until there is one if `wait`."""
        deadline = time.monotonic() + (timeout if timeout is not None else _IDLE_TURN_S)
        while wait and self.to_user_queue.empty() and self.is_alive():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            self.turn(remaining)
        return super().receive_pdu(wait=False)

    def turn(self, timeout_s: float) -> None:
        """Wait so long for a PDU, the end of the connection or a timer, and act on it."""
        try:
            if self.artim_timer.expired:
                self.event_queue.put("Evt18")
            elif self.event_queue.empty() and self.to_provider_queue.empty() and self.socket is not None:
                sock = cast(PromptSocket, self.socket)
                if sock.wait(min(timeout_s, _IDLE_TURN_S), self.wake_fd):
                    self._read_pdu_data()
                    self._idle_timer.restart()
            self._act()
        except Misused as misuse:
            _LOG.warning("association aborted: %s", misuse)
            self._break_off()
        except (
            Exception
        ) as error:  # pynetdicom on bytes from anywhere: whatever it was, this association ends
            _LOG.warning("association aborted: %s in the upper layer", type(error).__name__)
            self._break_off()

    def finish(self) -> None:
        """Let the peer close its end, then close ours."""
        deadline = time.monotonic() + CLOSING_S
        while self.is_alive() and self.state_machine.current_state != "Sta1":
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            self.turn(remaining)
        self._kill_thread = True
        self.shut()

    def shut(self) -> None:
        """Close the connection from whatever thread; a turn that waits for it then ends."""
        if self.socket is not None:
            self.socket._shutdown_socket()

    def _act(self) -> None:
        while self.is_alive() and (self._process_recv_primitive() or not self.event_queue.empty()):
            self.state_machine.do_action(self.event_queue.get_nowait())

    def _break_off(self) -> None:
        self._kill_thread = True
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x02, 0x00  # the provider; no reason given (PS3.8 table 9-26)
        self._send(abort)
        self.to_user_queue.put(A_P_ABORT())
        self.shut()


class StoringDimse(DIMSEServiceProvider):
    """DIMSE messages; the data set of a C-STORE request goes to a sink while it arrives."""

    def __init__(self, assoc: "StoringAssociation", service: "StoreService") -> None:
        super().__init__(assoc)
        self._service = service
        self._command = bytearray()
        self._incoming: StoreRequest | None = None

    @property
    def is_receiving(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._incoming is not None or bool(self._command) or self.message is not None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA-TF (PS3.8 Annex E). Raises: Misused."""
        for context_id, fragment in primitive.presentation_data_value_list:
            is_command, is_last = fragment[0] & 1, fragment[0] & 2
            if is_command:
                self._command += memoryview(fragment)[1:]
                if len(self._command) > COMMAND_LIMIT_BYTES:
                    raise Misused(f"a command set of more than {COMMAND_LIMIT_BYTES} bytes")
                if is_last:
                    self._begin(context_id)
            elif self._incoming is None:
                raise Misused("a data set that belongs to no C-STORE request")
            else:
                self._incoming.sink.write(memoryview(fragment)[1:])
                if is_last:
                    self.msg_queue.put((context_id, cast(Any, self._incoming)))
                    self._incoming = None

    def discard(self) -> None:
        """The association is over; so is what it was sending, and what was never answered."""
        self._discard_incoming()
        while not self.msg_queue.empty():
            _, message = self.msg_queue.get_nowait()
            if isinstance(cast(object, message), StoreRequest):
                cast(StoreRequest, message).sink.discard()

    def _discard_incoming(self) -> None:
        if self._incoming is not None:
            self._incoming.sink.discard()
            self._incoming = None

    def _begin(self, context_id: int) -> None:
        encoded, self._command = bytes(self._command), bytearray()
        if self.msg_queue.qsize() >= UNANSWERED_LIMIT:
            raise Misused(f"more than {UNANSWERED_LIMIT} requests before their answers")
        command = store_command(encoded)
        if command is None:
            self._pass_on(context_id, encoded)
            return
        self._discard_incoming()
        request = StoreRequest(
            command,
            context_id,
            self._service.open_sink(cast(StoringAssociation, self.assoc), context_id, command),
        )
        if command.has_data_set:
            self._incoming = request
        else:
            self.msg_queue.put((context_id, cast(Any, request)))

    def _pass_on(self, context_id: int, command: bytes) -> None:
        """All other messages are pynetdicom's own business. None that we serve has a data set."""
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[context_id, b"\x03" + command]]  # type: ignore[list-item]
        super().receive_primitive(primitive)


class StoreService(Protocol):
    """What a StoringAssociation serves."""

    def open_sink(self, assoc: "StoringAssociation", context_id: int, command: StoreCommand) -> StoreSink:
        """A sink for the data set that follows a C-STORE command set."""

    def is_stopping(self) -> bool:
        """Whether to end as soon as no message is half received."""

    def ended(self, assoc: "StoringAssociation") -> None:
        """The last word of an association's thread."""


class StoringAssociation(Association):
    """An association that is accepted; its thread waits on the socket and on nothing else."""

    dul: SocketDrivenDul
    dimse: StoringDimse

    def __init__(self, ae: Any, mode: str, service: StoreService, wake_fd: int) -> None:
        super().__init__(ae, mode)
        self.dul = SocketDrivenDul(self, wake_fd)
        self.dimse = StoringDimse(self, service)
        self.acse_timeout = ae.acse_timeout  # again: both live in the timers of the upper layer
        self.network_timeout = ae.network_timeout
        self._service = service

    def run_reactor(self) -> None:
        """The whole life of the association's thread."""
        try:
            super().run_reactor()
        finally:
            self.dimse.discard()
            self.dul.shut()
            self._service.ended(self)

    def kill(self) -> None:
        """End it: the state machine runs to its end in the caller's thread."""
        self._reactor_checkpoint.set()
        self._kill = True
        self.is_established = False
        self.dul.finish()

    def _run_reactor(self) -> None:
        while not self._kill:
            self.dul.turn(self.dul._idle_timer.remaining)
            while not self.dimse.msg_queue.empty() and self.dul.is_alive():
                self._answer()
            self._check_end()

    def _answer(self) -> None:
        context_id, message = self.dimse.get_msg(block=False)
        if isinstance(cast(object, message), StoreRequest):
            self._store(cast(StoreRequest, message))
        elif message is not None:
            self._serve_request(message, cast(int, context_id))

    def _check_end(self) -> None:
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            self._end(evt.EVT_RELEASED)
        elif self.acse.is_aborted() or not self.dul.is_alive():
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            self._end(evt.EVT_ABORTED)
        elif self._service.is_stopping():
            self.dul.wake_fd = -1  # it was heard; from here on only the peer can wake us
            if not self.dimse.is_receiving:
                self._break_off()
        elif self.dul.idle_timer_expired():
            self._break_off()

    def _break_off(self) -> None:
        self.abort(block=False)
        self.kill()

    def _end(self, event: Any) -> None:
        self.is_established = False
        evt.trigger(self, event, {})
        self.kill()

    def _store(self, request: StoreRequest) -> None:
        status, comment, offending = request.sink.finish()
        response = store_response(
            request.command, status=status, error_comment=comment, offending_element=offending
        )
        primitive = P_DATA()
        primitive.presentation_data_value_list = [[request.context_id, b"\x03" + response]]  # type: ignore[list-item]
        self.dul.send_pdu(primitive)


def quiet_pynetdicom() -> None:
    """Turn off pynetdicom's logging of every PDU: it costs time, and lines may quote what a peer sent."""
    _config.LOG_HANDLER_LEVEL = "none"
