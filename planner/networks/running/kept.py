"""Things that are dear to make, kept by key: sessions, parameters of members."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """What was made, by key: made once, by whoever asks first; those asked for last are kept.

    size: of one thing; most: of all together, None for no bound.
    """

    def __init__(self, most: int | None = None, size: Callable[[T], int] = lambda _: 1) -> None:
        self._most, self._size = most, size
        self._things: OrderedDict[Hashable, T] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._held = 0
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self._things)

    def items(self) -> list[tuple[Hashable, T]]:
        """What is kept now."""
        with self._turn:
            return list(self._things.items())

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of this key. Two threads may make two at once, but not one twice."""
        with self._turn:
            if key in self._things:
                self._things.move_to_end(key)
                return self._things[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._turn:
                if key in self._things:
                    return self._things[key]
            try:
                return self._put(key, make())
            finally:
                with self._turn:
                    self._making.pop(key, None)

    def keep_only(self, wanted: Callable[[Hashable], bool]) -> None:
        """Let go of what has other keys. Who still holds such a thing may go on using it."""
        with self._turn:
            for key in [key for key in self._things if not wanted(key)]:
                self._held -= self._size(self._things.pop(key))

    def _put(self, key: Hashable, thing: T) -> T:
        with self._turn:
            if key in self._things:  # two made it, after a third had failed
                return self._things[key]
            self._things[key] = thing
            self._held += self._size(thing)
            while self._most is not None and self._held > self._most and len(self._things) > 1:
                self._held -= self._size(self._things.popitem(last=False)[1])
        return thing
