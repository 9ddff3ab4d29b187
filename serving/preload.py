"""Imported once by the fork server, so that all its children share these modules' memory.

gc.freeze keeps the garbage collector from touching (and so copying) what is shared.
"""

import gc

import pydicom.sr.codedict  # 45 MB that highdicom needs in every process that encodes

import serving.dicom.receiver
import serving.pools.worker

gc.collect()
gc.freeze()

__all__ = ["pydicom", "serving"]
