"""One table answers for every error, in both protocols."""

from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from serving import errors
from serving.answers import ANSWERS, BY_NAME, SUCCESS, answer_for
from serving.dicom.handover import refused
from serving.errors import RequestError


def every_error() -> set[type[RequestError]]:
    found = {RequestError}
    waiting = [RequestError]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            found.add(kind)
            waiting.append(kind)
    return found


def test_no_error_is_left_without_an_answer() -> None:
    assert ANSWERS.keys() == every_error()
    assert {name for name in vars(errors) if name[0].isupper()} == BY_NAME.keys()


def test_every_status_is_a_failure_of_the_standard() -> None:
    for kind, answer in ANSWERS.items():
        assert 400 <= answer.http < 600, kind
        assert answer.dimse in STORAGE_SERVICE_CLASS_STATUS, kind
        assert answer.dimse != SUCCESS


def test_a_refusal_is_the_same_error_after_it_travelled() -> None:
    for kind in ANSWERS:
        back = refused(kind("A sentence.")).as_error()
        assert type(back) is kind
        assert back.message == "A sentence."
        assert answer_for(back) == ANSWERS[kind]
