"""How a receiver process hands images to the process that owns the journal, and waits for its commit.

One `multiprocessing` connection, messages in MessagePack. In the receiver many association threads wait for
their answers (`HandoverClient`); in the main process one coroutine takes everything that is waiting at a time
(`HandoverServer`), so that one commit of the journal answers many.
"""

import asyncio
import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Literal, TypeAlias

import msgspec

from serving.answers import BY_NAME
from serving.dicom.instance import ReceivedInstance
from serving.errors import NoCapacity, RequestError

BATCH = 256
"""Images in one call of `intake`. A guess: far more than associations are allowed."""


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """Journalled: it survives a power cut. `duplicate`: it was there already, and the new file goes."""

    duplicate: bool = False


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Not journalled. `error` is the name of a RequestError's class."""

    error: str
    message: str

    def as_error(self) -> RequestError:
        """The exception that this was."""
        return BY_NAME.get(self.error, RequestError)(self.message)


def refused(error: RequestError) -> Refused:
    """An exception as a value that travels."""
    return Refused(type(error).__name__, error.message)


Outcome: TypeAlias = Accepted | Refused
Intake: TypeAlias = Callable[[Sequence[ReceivedInstance]], Awaitable[Sequence[Outcome]]]
"""Journals instances; answers in the same order, only after the commit."""
AssociationClosed: TypeAlias = Callable[[str], Awaitable[None]]
Refusable: TypeAlias = Literal["image", "association"]
"""A STOW-RS request counts as an association."""
CountRefusal: TypeAlias = Callable[[Refusable, str], None]
"""Told what was refused at a door, and why as one word; what the journal refused is counted there."""


class Listening(msgspec.Struct, frozen=True, tag=True):
    """The receiver takes associations."""

    host: str
    port: int


class Offer(msgspec.Struct, frozen=True, tag=True):
    """A durable file, to be journalled."""

    id: int
    instance: ReceivedInstance


class Closed(msgspec.Struct, frozen=True, tag=True):
    """An association ended; everything it delivered was offered before."""

    association: str


class NotTaken(msgspec.Struct, frozen=True, tag=True):
    """Something was refused at the door: to be counted. Neither word tells of a patient."""

    what: Refusable
    reason: str


class Answered(msgspec.Struct, frozen=True, tag=True):
    """The outcome of an offer."""

    id: int
    outcome: Outcome


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Take no more associations, finish what runs, end."""


FromReceiver: TypeAlias = Listening | Offer | Closed | NotTaken
ToReceiver: TypeAlias = Answered | Stop
_from_receiver = msgspec.msgpack.Decoder(FromReceiver)
_to_receiver = msgspec.msgpack.Decoder(ToReceiver)
_encode = msgspec.msgpack.Encoder().encode


class HandoverClient:
    """The receiver's end: any thread may call `offer` and `closed`; one thread runs `run`."""

    def __init__(self, connection: Connection, *, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._sending = threading.Lock()
        self._ids = itertools.count()
        self._waiting: dict[int, Future[Outcome]] = {}

    def listening(self, host: str, port: int) -> None:
        """Say that the port is open."""
        self._send(Listening(host, port))

    def offer(self, instance: ReceivedInstance) -> Outcome:
        """Hand one image over and wait until it is journalled.

        Raises: NoCapacity if no answer came in time. It may be journalled all the same: the file stays.
        """
        number = next(self._ids)
        answer: Future[Outcome] = Future()
        self._waiting[number] = answer
        try:
            self._send(Offer(number, instance))
            return answer.result(self._timeout_s)
        except TimeoutError as error:
            raise NoCapacity(f"The journal gave no answer within {self._timeout_s:g} s.") from error
        finally:
            del self._waiting[number]

    def closed(self, association: str) -> None:
        """Report the end of an association."""
        self._send(Closed(association))

    def not_taken(self, what: Refusable, reason: str) -> None:
        """Have a refusal counted. See CountRefusal."""
        with contextlib.suppress(NoCapacity):  # nobody is there to count
            self._send(NotTaken(what, reason))

    def run(self, on_stop: Callable[[], None]) -> None:
        """Take answers until the main process closes its end; `on_stop` when it asks to stop, or is gone."""
        try:
            while True:
                match _to_receiver.decode(self._connection.recv_bytes()):
                    case Answered(number, outcome):
                        waiting = self._waiting.get(number)
                        if waiting is not None:
                            waiting.set_result(outcome)
                    case Stop():
                        on_stop()
        except (EOFError, OSError):
            on_stop()

    def _send(self, message: FromReceiver) -> None:
        data = _encode(message)
        try:
            with self._sending:
                self._connection.send_bytes(data)
        except OSError as error:
            raise NoCapacity("The process that keeps the journal is gone.") from error


class HandoverServer:
    """The main process's end. `run` in a task of its own; it ends when the receiver does.

    Associations that were open when the receiver died are closed then.
    """

    def __init__(
        self,
        connection: Connection,
        intake: Intake,
        association_closed: AssociationClosed,
        not_taken: CountRefusal = lambda what, reason: None,
    ) -> None:
        self._connection = connection
        self._intake = intake
        self._association_closed = association_closed
        self._not_taken = not_taken
        self._open: set[str] = set()
        """Associations that have delivered something."""
        self._arrived: deque[Offer | Closed] = deque()
        self._something = asyncio.Event()
        self._address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        self._gone = False

    async def listening(self) -> tuple[str, int]:
        """Host and port, once the receiver has them. Raises: ConnectionError if it ended before."""
        return await asyncio.shield(self._address)

    async def run(self) -> None:
        """Journal what arrives and answer it, until the receiver closes its end."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._connection.fileno(), self._read)
        try:
            while not self._gone or self._arrived:
                await self._something.wait()
                self._something.clear()
                while self._arrived:
                    await self._next()
            for association in sorted(self._open):
                await self._association_closed(association)
        finally:
            loop.remove_reader(self._connection.fileno())
            if not self._address.done():
                self._address.set_exception(ConnectionError("the receiver ended before it listened"))
                self._address.exception()  # nobody may be waiting for it

    def stop(self) -> None:
        """Ask the receiver to finish; `run` then ends by itself."""
        self._send(Stop())

    async def _next(self) -> None:
        """One group of offers, or one closed association, in the order they came."""
        first = self._arrived.popleft()
        if isinstance(first, Closed):
            self._open.discard(first.association)
            await self._association_closed(first.association)
            return
        offers = [first]
        while self._arrived and len(offers) < BATCH and isinstance(following := self._arrived[0], Offer):
            offers.append(following)
            self._arrived.popleft()
        self._open.update(offer.instance.association for offer in offers)
        outcomes = await self._journal([offer.instance for offer in offers])
        for offer, outcome in zip(offers, outcomes, strict=True):
            self._send(Answered(offer.id, outcome))

    async def _journal(self, instances: Sequence[ReceivedInstance]) -> Sequence[Outcome]:
        try:
            return await self._intake(instances)
        except RequestError as error:
            return [refused(error)] * len(instances)

    def _read(self) -> None:
        try:
            while self._connection.poll():
                match _from_receiver.decode(self._connection.recv_bytes()):
                    case Listening(host, port):
                        self._address.set_result((host, port))
                    case NotTaken(what, reason):
                        self._not_taken(what, reason)
                    case Offer() | Closed() as message:
                        self._arrived.append(message)
        except (EOFError, OSError):
            self._gone = True
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
        self._something.set()

    def _send(self, message: ToReceiver) -> None:
        try:
            self._connection.send_bytes(_encode(message))
        except OSError:
            self._gone = True  # the receiver died: what it offered stays journalled, its peers will retry
            self._something.set()
