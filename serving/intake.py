"""The one way in: what the front doors received is journalled here, and its series watched until complete."""

import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from serving.config import Completeness
from serving.dicom.completeness import SeriesWatch
from serving.dicom.handover import Accepted, Outcome, refused
from serving.dicom.instance import ReceivedInstance
from serving.errors import NoCapacity
from serving.jobs import instances
from serving.jobs.database import Database, JournalError
from serving.jobs.instances import Arrival
from serving.observe.metrics import Metrics

log = logging.getLogger(__name__)

SeriesComplete: TypeAlias = Callable[[str, str, str, float], Awaitable[None]]
"""(tenant, Series Instance UID, reason, time of the last image)"""
