"""The CT chest phantom: a seeded, made-up patient whose anatomy is known exactly.

phantom = make_phantom(PhantomSpec(seed=1))      # Volume in HU and its ground truth
series = phantom_series(PhantomSpec(seed=1), folder)   # the same as DICOM files
"""

from models.phantom.dicom import phantom_series, write_dicom
from models.phantom.generate import make_phantom
from models.phantom.materials import SEGMENTS
from models.phantom.spec import Phantom, PhantomSpec

__all__ = ["SEGMENTS", "Phantom", "PhantomSpec", "make_phantom", "phantom_series", "write_dicom"]
