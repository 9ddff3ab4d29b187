"""Those who compile, promote or roll back take turns: each reads all live plans and names their binding."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from object_store.durable import locked, make_directories
from object_store.errors import disk_errors
from object_store.opening import Store


@contextmanager
def turn(store: Store) -> Iterator[None]:
    """Hold the store's plans and binding for oneself, among processes and threads. Not reentrant.

    Without it a plan that is named while another process measures for its binding would be lost from that
    binding. The lock ends when its holder dies. Raises: StoreUnavailable, StoreFull.
    """
    root = store.objects.root
    with ExitStack() as held:
        with disk_errors(root):
            make_directories(root)
            held.enter_context(locked(root / "turn.lock", exclusive=True))
        yield
