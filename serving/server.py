"""One running server: opens everything in order, keeps it together, and closes it without losing anything."""

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerContext
from typing import Any, TypeAlias

from fastapi import Request

from models.operators.registry import OPERATORS
from object_store.errors import StoreError
from object_store.opening import Store, open_store
from planner.networks.joint import networks_of
from serving import __version__
from serving.api import ApiServices
from serving.app import build_app
from serving.config import Config
from serving.delivering import Deliveries
from serving.dicom.spool import Spool
from serving.dicom.web_services import DicomWebServices
from serving.front_door import FrontDoor
from serving.intake import Intake
from serving.job_making import JobMaker
from serving.jobs.database import Database
from serving.jobs.relocation import relocate
from serving.library import Library
from serving.observe.metrics import Metrics
from serving.pools.messages import WarmUp
from serving.pools.pool import Pool, PoolSpec
from serving.results import Results
from serving.scheduler.engine import Engine
from serving.scheduler.state import Limits
from serving.tenants.identity import identify_client
from serving.web import WebServer, listen
from serving.workplace import Workplace, occupy

log = logging.getLogger(__name__)

Addresses: TypeAlias = dict[str, Any]
"""{"pid", "http": URL, "dimse": {"host", "port", "ae_title"}}"""

FOLLOW_S = 0.3
"""How often the store's names are looked at: a promotion is followed within 1 s."""
DRAIN_S = 5.0
"""How long stages may go on after SIGTERM; what is cut is in the journal and runs again at the next start."""
KEEP_SHARE = 8
"""One part in so many of the memory limit may hold values nobody waits for. A guess."""


def serve(config: Config, context: ForkServerContext, on_ready: Callable[[Addresses], None]) -> None:
    """Run a server until SIGTERM or SIGINT. Blocks.

    Raises: ConfigError if the data directory or a port cannot be had; JournalError; StoreError.
    """
    import uvloop

    with occupy(config) as place:
        try:
            uvloop.run(_run(config, place, context, on_ready))
        finally:
            for child in multiprocessing.active_children():  # after a failed start: they ignore SIGTERM
                child.kill()


async def _run(
    config: Config, place: Workplace, context: ForkServerContext, on_ready: Callable[[Addresses], None]
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with (
        contextlib.closing(Database(place.journal)) as database,
        open_store(place.store, verify_on_read=True) as store,
    ):
        server = Server(config, place, context, database, store)
        try:
            async with asyncio.TaskGroup() as tasks:
                await server.start(tasks)
                on_ready(server.addresses)
                await stop.wait()
                log.info("stopping")
                await server.stop()
        except* Exception as failures:  # one cause is enough to tell, and the caller knows its type
            raise failures.exceptions[0] from None


class Server:
    """The services of the process and how they are wired; `start` opens the doors, `stop` closes them."""

    def __init__(
        self, config: Config, place: Workplace, context: ForkServerContext, database: Database, store: Store
    ) -> None:
        self._config, self._place, self._database = config, place, database
        self._started_at = time.time()
        self._ready = {"pools": False, "dimse": False, "http": False}
        self._background: list[asyncio.Task[None]] = []
        metrics = Metrics()
        self._library = Library(store, tuple(tenant.name for tenant in config.tenants))
        self._library.refresh()
        self._deliveries = Deliveries(database, config.destinations, metrics)
        self._results_spool = Spool(place.results, min_free_bytes=0)
        results = Results(
            database,
            self._results_spool,
            config.destinations,
            metrics,
            self._deliveries.wake,
        )
        limits = Limits(
            memory_bytes=config.pools.memory_bytes,
            keep_bytes=config.pools.memory_bytes // KEEP_SHARE,
            retries=config.pools.retries,
            run_deadline_s=config.pools.run_deadline_s,
        )
        self._engine = Engine(limits, metrics, results.job_started, results.job_ended)
        self._pools = self._make_pools(context)
        self._job_maker = JobMaker(database, self._library, self._engine, config.routes, metrics)
        self._intake = Intake(database, config.completeness, metrics, self._job_maker.series_complete)
        self._front_door = FrontDoor(config, place, context, self._intake, metrics.not_taken)
        self._spool = Spool(
            place.spool,
            min_free_bytes=config.spool.min_free_bytes,
            max_object_bytes=config.spool.max_object_bytes,
        )
        self._http_socket = listen("http.port", config.http.host, config.http.port)
        self._web = WebServer(
            build_app(self._api_services(metrics), self._web_services(metrics)), self._http_socket
        )

    @property
    def addresses(self) -> Addresses:
        """Where the server can be reached; final once started."""
        host, port = self._http_socket.getsockname()[:2]
        dimse_host, dimse_port = self._front_door.address
        ae_title = self._config.dimse.ae_title
        return {
            "pid": os.getpid(),
            "http": f"http://{host}:{port}",
            "dimse": {"host": dimse_host, "port": dimse_port, "ae_title": ae_title},
        }

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Open everything; unfinished work of an earlier run goes on."""
        if await self._database.write(partial(relocate, data=self._place.data)):
            log.warning("the data folder was moved: the journal's paths were changed accordingly")
        await self._intake.sweep(self._spool)
        await self._intake.sweep(self._results_spool)
        await self._intake.resume()  # before any door is open, so that it overwrites nothing
        web = tasks.create_task(self._web.run_until_stopped())
        self._background = [
            tasks.create_task(self._engine.run()),
            tasks.create_task(self._deliveries.run()),
            tasks.create_task(self._intake.run()),
        ]
        await asyncio.gather(*(pool.start() for pool in self._pools.values()))
        self._ready["pools"] = True
        await self._job_maker.resume()
        await self._front_door.start(tasks)
        self._ready["dimse"] = True
        await self._web.wait_started()
        self._ready["http"] = True
        self._place.address_file.write_text(json.dumps(self.addresses))
        self._warm_up()
        self._background.append(tasks.create_task(self._follow_store()))
        self._background.append(web)

    async def stop(self) -> None:
        """Close the doors, let stages finish for a while, and leave the rest to the journal."""
        self._ready = dict.fromkeys(self._ready, False)
        await self._front_door.stop()
        self._web.stop()
        *services, web = self._background
        await web
        for service in services[1:]:
            service.cancel()
        self._engine.pause()
        await asyncio.gather(*(pool.stop(DRAIN_S) for pool in self._pools.values()))
        with contextlib.suppress(TimeoutError):  # a full disk: the journal still knows the jobs as unfinished
            await asyncio.wait_for(self._engine.settle(), DRAIN_S)
        services[0].cancel()

    def _warm_up(self) -> None:
        """Have the pools load, after readiness, what the promoted plans need."""
        plans = self._library.promoted_plans()
        asked = {node.operator for plan in plans for node in plan.nodes}
        operators = sorted(word for word in asked if word in OPERATORS)  # others are of another version
        of_gil = tuple(word for word in operators if OPERATORS[word].holds_gil)
        of_cpu = tuple(word for word in operators if word not in of_gil)
        networks = tuple(sorted({g for plan in plans for node in plan.nodes for g in networks_of(node)}))
        binding = self._library.current_binding or ""
        self._pools["gil"].warm_up(WarmUp(of_gil, (), binding))
        self._pools["cpu"].warm_up(WarmUp(of_cpu, networks, binding))

    async def _follow_store(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                changed = self._library.refresh()
                said = ""
            except StoreError as error:  # what was known stays true until the store answers again
                if str(error) != said:
                    said = str(error)
                    log.error("the store cannot be followed: %s", said)
                continue
            if changed:
                log.info("promotions or bindings have changed")
                self._warm_up()

    def _make_pools(self, context: ForkServerContext) -> dict[str, Pool]:
        settings, place = self._config.pools, self._place
        sizes = {"cpu": (1, settings.cpu_threads), "gil": (settings.gil_processes, 1)}
        pools = {}
        for name, (processes, threads) in sizes.items():
            spec = PoolSpec(
                name=name, processes=processes, threads=threads, store=place.store, memory=place.memory
            )
            pool = Pool(
                spec,
                context,
                self._engine.answered,
                self._engine.lost,
                partial(self._engine.resize_pool, name),
            )
            self._engine.add_pool(name, pool, 0)
            pools[name] = pool
        return pools

    def _tenant_of(self, request: Request) -> str:
        config = self._config
        return identify_client(config.tenants, request.headers, listens_on=config.http.host)

    def _web_services(self, metrics: Metrics) -> DicomWebServices:
        return DicomWebServices(
            tenant_of=self._tenant_of,
            database=self._database,
            intake=self._intake.receive,
            association_closed=self._intake.association_closed,
            spool=self._spool,
            max_body_bytes=self._config.http.max_body_bytes,
            not_taken=metrics.not_taken,
        )

    def _api_services(self, metrics: Metrics) -> ApiServices:
        return ApiServices(
            database=self._database,
            library=self._library,
            engine=self._engine,
            metrics=metrics,
            tenant_of=self._tenant_of,
            is_ready=lambda: {**self._ready, "dimse": self._ready["dimse"] and self._front_door.is_open},
            status=self._status,
        )

    def _status(self) -> dict[str, Any]:
        state = self._engine.state
        return {
            "version": __version__,
            "started_at": self._started_at,
            "jobs_active": len(self._engine.jobs),
            "pools": {
                name: {
                    "slots": pool.slots,
                    "running": len(pool.running),
                    "warm": self._pools[name].warm,
                    "restarts": self._pools[name].restarts,
                    "pids": self._pools[name].pids,
                }
                for name, pool in state.pools.items()
            },
            "receiver": {"restarts": self._front_door.restarts},
            "memory": {
                "reserved_bytes": state.reserved_bytes,
                "limit_bytes": state.limits.memory_bytes,
                "values_bytes": sum(state.present.values()),
            },
        }
