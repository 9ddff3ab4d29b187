"""Which presentation contexts are agreed to."""

from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context

from serving.dicom.receiver import agreeable
from serving.dicom.syntaxes import storage_sop_classes, transfer_syntaxes

CT = "1.2.840.10008.5.1.4.1.1.2"


def test_every_storage_class_and_transfer_syntax_that_pynetdicom_knows_is_taken() -> None:
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    assert known <= storage_sop_classes()
    elsewhere = {str(uid) for uid in ALL_TRANSFER_SYNTAXES} - transfer_syntaxes()
    jpip = {f"1.2.840.10008.1.2.4.{last}" for last in (94, 95, 204, 205)}
    assert all(uid in jpip or uid.startswith("1.2.840.10008.1.2.7.") for uid in elsewhere)  # SMPTE


def test_a_proposal_keeps_the_senders_order_and_loses_what_is_unknown() -> None:
    proposed = [build_context(CT, ["1.2.840.10008.1.2.4.90", "1.2.3.4", "1.2.840.10008.1.2.1"])]
    proposed.append(build_context("1.2.840.10008.5.1.4.1.2.2.1"))  # a query: no storage
    (agreed,) = agreeable(proposed)
    assert agreed.transfer_syntax == ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1"]
