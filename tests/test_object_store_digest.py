"""A digest says exactly one thing and can be spelled in exactly one way."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object_store import Digest, DigestInvalid

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855:0"
"""FIPS 180-4: the hash of the empty message."""


@given(data=st.binary(max_size=100))
def test_a_digest_is_read_back_from_its_text(data: bytes) -> None:
    digest = Digest.of(data)
    assert Digest.parse(str(digest)) == digest
    assert digest.size == len(data)


def test_the_empty_message_has_the_digest_of_the_standard() -> None:
    assert str(Digest.of(b"")) == EMPTY
    assert Digest.of(np.zeros((0, 3), np.int16).data) == Digest.of(b"")


def test_an_array_has_the_digest_of_its_bytes() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert Digest.of(array.data) == Digest.of(array.tobytes())
    assert Digest.of(bytearray(b"ct")) == Digest.of(memoryview(b"ct")) == Digest.of(b"ct")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        EMPTY[:-2],
        EMPTY + "0",
        EMPTY + "\n",
        " " + EMPTY,
        EMPTY.replace("sha256", "sha512"),
        EMPTY.replace("e3b0", "E3B0"),
        EMPTY.replace("e3b0", "x3b0"),
        EMPTY.replace("e3b0", "../."),
        EMPTY[:-1] + "-1",
        EMPTY[:-1] + "+1",
        EMPTY[:-1] + "٣",
        EMPTY[:-1] + "9" * 19,
        EMPTY[:-1] + "9" * 5000,
    ],
)
def test_a_text_that_is_not_quite_a_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid, match="not a digest") as caught:
        Digest.parse(text)
    assert caught.value.text == text
    assert len(str(caught.value)) < 250


@given(text=st.text(max_size=80))
def test_any_text_is_a_digest_in_its_only_spelling_or_refused(text: str) -> None:
    try:
        spelled = str(Digest.parse(text))
    except DigestInvalid as error:
        spelled = pickle.loads(pickle.dumps(error)).text
    assert spelled == text


def test_a_digest_of_impossible_parts_cannot_be_made() -> None:
    with pytest.raises(DigestInvalid):
        Digest("abc", 3)
    with pytest.raises(DigestInvalid):
        Digest(Digest.of(b"").sha256, -1)
