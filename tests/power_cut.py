"""A power cut after so many writes to the database of a store."""

from collections.abc import Callable, Sequence

import pytest

from object_store.errors import StoreUnavailable
from object_store.names import Names


def cut_short(
    monkeypatch: pytest.MonkeyPatch, allowed: int, verbs: Sequence[str], work: Callable[[], object]
) -> bool:
    """Do the work with a power cut after `allowed` of these writes (methods of Names); whether it came to it.

    Name the methods that write, not those that call them: each call of one is a write of its own.
    """
    left = iter(range(allowed))

    def counted(write: Callable[..., None]) -> Callable[..., None]:
        def once(*arguments: object) -> None:
            if next(left, None) is None:
                raise StoreUnavailable("power cut")
            write(*arguments)

        return once

    with monkeypatch.context() as patched:
        for verb in verbs:
            patched.setattr(Names, verb, counted(getattr(Names, verb)))
        try:
            work()
        except StoreUnavailable:
            return True
    return False
