"""The entry of the receiver process, as the main process names it: without importing pynetdicom.

That would cost the main process 1 s and 50 MB for nothing; the child has it from the fork server.
"""

from multiprocessing.connection import Connection

from serving.dicom.receiver_settings import ReceiverSettings


def receiver_main(settings: ReceiverSettings, connection: Connection) -> None:
    """Run until told to stop or until the main process is gone. The entry of a process."""
    from serving.dicom.receiver import run_receiver

    run_receiver(settings, connection)
