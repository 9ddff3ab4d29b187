"""Who compiles, promotes or rolls back takes turns: each reads all live plans and then names a binding of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from object_store.durable import locked, make_directories
from object_store.errors import disk_errors
from object_store.opening import Store


@contextmanager
def turn(store: Store) -> Iterator[None]:
    """Hold the store's plans and binding for oneself, among processes and threads. Not reentrant.

    Without it a plan that is named while another process measures for its binding would be lost from that
    binding. The lock ends when its holder dies. Raises: StoreUnavailable, StoreFull.
    """
    with disk_errors(store.objects.root):
        make_directories(store.objects.root)
        held = locked(store.objects.root / "turn.lock", exclusive=True)
        held.__enter__()
    try:
        yield
    finally:
        held.__exit__(None, None, None)
