"""What every object store promises. One suite runs against all of them; a dict is their model."""

import pickle
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from object_store import Digest, LocalStore, MemoryStore, ObjectMissing, ObjectStore

STORES: dict[str, Callable[[Path], ObjectStore]] = {
    "memory": lambda root: MemoryStore(),
    "local": LocalStore,
    "local, verifying": lambda root: LocalStore(root, verify_on_read=True),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return STORES[request.param](tmp_path / "store")


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)) * 9000])
def test_what_was_put_is_got(store: ObjectStore, data: bytes) -> None:
    digest = store.put(data)
    assert digest == Digest.of(data)
    assert store.get(digest) == data


def test_putting_twice_is_putting_once(store: ObjectStore) -> None:
    assert store.put(b"weights") == store.put(bytearray(b"weights")) == store.put(memoryview(b"weights"))


def test_changing_a_buffer_after_the_put_changes_nothing(store: ObjectStore) -> None:
    buffer = bytearray(b"weights")
    digest = store.put(buffer)
    buffer[0] = 0
    assert store.get(digest) == b"weights"


def test_an_object_nobody_put_is_missing(store: ObjectStore) -> None:
    digest = Digest.of(b"elsewhere")
    with pytest.raises(ObjectMissing) as caught:
        store.get(digest)
    assert caught.value.digest == digest
    assert pickle.loads(pickle.dumps(caught.value)).digest == digest


def test_missing_names_exactly_those_that_must_be_put(store: ObjectStore) -> None:
    here, elsewhere = store.put(b"here"), Digest.of(b"elsewhere")
    assert store.missing([here, elsewhere, elsewhere]) == {elsewhere}
    assert store.missing([]) == frozenset()


def test_a_right_hash_with_a_wrong_size_is_another_object(store: ObjectStore) -> None:
    right = store.put(b"weights")
    wrong = Digest(right.sha256, right.size + 1)
    assert store.missing([right, wrong]) == {wrong}
    with pytest.raises(ObjectMissing):
        store.get(wrong)


class StoreAgainstItsModel(RuleBasedStateMachine):
    """Puts, gets, deletions and damage in any order: the directory behaves as a dict of what is whole."""

    digests = Bundle("digests")

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.store = LocalStore(Path(self.directory.name), verify_on_read=True)
        self.model: dict[Digest, bytes] = {}

    def teardown(self) -> None:
        self.directory.cleanup()

    @rule(target=digests, data=st.binary(max_size=3))
    def put(self, data: bytes) -> Digest:
        digest = self.store.put(data)
        self.model[digest] = data
        return digest

    @rule(target=digests, data=st.binary(max_size=3))
    def speak_of(self, data: bytes) -> Digest:
        return Digest.of(data)

    @rule(digest=digests)
    def collect(self, digest: Digest) -> None:
        with self.store.exclusive():
            deleted = self.store.discard([digest], unused_since_s=float("inf"))
        assert deleted == ([digest] if self.model.pop(digest, None) is not None else [])

    @rule(digest=digests)
    def damage_and_heal(self, digest: Digest) -> None:
        if digest in self.model and digest.size:
            path = self.store._path(digest)
            path.chmod(0o644)
            path.write_bytes(bytes(byte ^ 1 for byte in self.model[digest]))
            assert self.store.put(self.model[digest]) == digest

    @rule(digest=digests)
    def get(self, digest: Digest) -> None:
        if digest in self.model:
            assert self.store.get(digest) == bytes(self.store.map(digest)) == self.model[digest]
        else:
            with pytest.raises(ObjectMissing):
                self.store.get(digest)

    @rule(asked=st.lists(digests, max_size=4))
    def missing(self, asked: list[Digest]) -> None:
        assert self.store.missing(asked) == set(asked) - self.model.keys()

    @invariant()
    def lists_what_it_holds(self) -> None:
        assert list(self.store) == sorted(self.model)


TestStoreAgainstItsModel = StoreAgainstItsModel.TestCase
TestStoreAgainstItsModel.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
