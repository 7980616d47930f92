"""A connection to the broker, with the streams of a fleet and what its workers have agreed on."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multires_edge.base.errors import InputError, require_extra
from multires_edge.runtime.ecg.sinks.address import SinkAddress
from multires_edge.runtime.fleet.names import KEPT_SECONDS, LEASE_SECONDS, PARTITIONS, Names
from multires_edge.runtime.fleet.tasks import ended

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.api import StreamConfig
    from nats.js.kv import KeyValue

PORT = 4222
_SETTINGS = "multires-settings"
# A network that is away without an end of the connection is noticed after two pings without an answer.
_PING, _PINGS = 1, 2
_CONNECT_SECONDS, _RETRY = 2, 0.25
_AGAIN = 1.0
_DOUBLES_SECONDS = 120.0
_REQUEST_SECONDS = 2.0
_SCHEMES = ("nats", "tls")


@dataclass(frozen=True)
class Broker:
    """The connection, and how many partitions the samples have."""

    client: Client
    context: JetStreamContext
    names: Names
    leases: KeyValue
    partitions: int


@dataclass(frozen=True)
class Wanted:
    """The streams as they are made if the broker has none; ``settings`` are those of all workers.

    ``replay`` are the seconds of samples that a decision can be made again from; samples are ``kept`` for at
    least twice as long. ``replicas`` of a cluster keep each message.
    """

    settings: dict[str, Any]
    replay: float
    partitions: int = PARTITIONS
    kept: float = KEPT_SECONDS
    replicas: int = 1

    def __post_init__(self) -> None:
        self.check_kept(self.kept, "samples are kept")

    def check_kept(self, seconds: float, what: str) -> None:
        """Raise InputError unless samples are kept long enough for a replay; 0 is without an end."""
        if 0 < seconds < 2 * self.replay:
            raise InputError(
                f"{what} for {seconds:g} s, expected at least {2 * self.replay:g} s: a worker that takes a "
                f"patient over reads {self.replay:g} s again"
            )


def options_of(address: str) -> dict[str, Any]:
    """The server and the options of a connection, for ``nats.connect``. Raises InputError.

    ADDRESS is nats://HOST:PORT or tls://HOST:PORT, with #user=NAME&password=env:NAME, #token=file:PATH,
    #creds=PATH, and #ca=PATH&cert=PATH&key=PATH for TLS.
    """
    given = SinkAddress.parse(address)
    if given.scheme not in _SCHEMES:
        raise InputError(f"{given.name}: expected nats://HOST:PORT or tls://HOST:PORT")
    given.check_options("user", "password", "token", "creds", "ca", "cert", "key")
    _, host, port = given.url("a NATS server", PORT)
    shown = f"[{host}]" if ":" in host else host
    options: dict[str, Any] = {"servers": f"{given.scheme}://{shown}:{port}"}
    if "user" in given.options:
        options["user"] = given.options["user"]
    for key in ("password", "token"):
        if (secret := given.secret(key)) is not None:
            options[key] = secret()
    if "creds" in given.options:
        require_extra("fleet", "credentials of NATS", "nkeys")
        path = given.options["creds"]
        if not Path(path).is_file():
            raise InputError(f"{given.name}: there is no file {path} with credentials")
        options["user_credentials"] = path
    if given.scheme == "tls":
        options["tls"] = given.tls()
    return options


async def connect(options: dict[str, Any], name: str, say: Callable[[str], None]) -> Client:
    """Connect, and again whenever the connection ends. Waits for a broker that is away, and says so.

    Raises InputError if the broker refuses this worker.
    """
    from nats.aio.client import Client

    client, server = Client(), options["servers"]
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    told = False

    async def away() -> None:
        if not client.is_closed:
            say("warning: the broker is away; decisions wait for it")

    async def back() -> None:
        say("note: the broker is back")

    async def failed(error: Exception) -> None:
        """Tell why there is no first connection. What fails later shows where a request fails."""
        nonlocal told
        if connecting.done() or refused.done():
            return
        if _is_refusal(error):
            refused.set_result(_reason(error))
        elif not told:
            told = True
            say(f"warning: {server} cannot be reached ({_reason(error)}); trying again")

    # Fractions of a second work, whatever the annotation of this argument says.
    options = options | {"reconnect_time_wait": _RETRY}
    connecting = asyncio.create_task(
        client.connect(
            **options, name=name, allow_reconnect=True, max_reconnect_attempts=-1,
            connect_timeout=_CONNECT_SECONDS, ping_interval=_PING, max_outstanding_pings=_PINGS,
            disconnected_cb=away, reconnected_cb=back, error_cb=failed,
        )
    )  # fmt: skip
    try:
        waiting: list[asyncio.Future[Any]] = [connecting, refused]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not refused.done():
            await connecting
            return client
    except (OSError, ValueError) as error:  # a file of credentials
        raise InputError(f"{server}: {_reason(error)}") from error
    finally:
        if not connecting.done():
            await ended(connecting)
    raise InputError(f"{server} refuses the connection ({refused.result()}); check the secrets")


def _is_refusal(error: Exception) -> bool:
    """Whether trying again does not help."""
    return isinstance(error, ssl.SSLError) or "authorization" in str(error).casefold()


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).removeprefix("nats: ").strip("'")


async def open_broker(client: Client, names: Names, wanted: Wanted, lease: float = LEASE_SECONDS) -> Broker:
    """Find the streams, or make them. Raises InputError if they are of another kind or another fleet."""
    from nats.errors import Error
    from nats.js.errors import APIError, ServiceUnavailableError

    context = client.jetstream(timeout=_REQUEST_SECONDS)
    while True:
        try:
            samples = await _config_of(context, names.samples) or _samples_config(names, wanted)
            decisions = await _config_of(context, names.decisions) or _decisions_config(names, wanted)
            partitions = _partitions_of(samples, names)
            wanted.check_kept(samples.max_age or 0.0, f"the stream {names.samples} keeps samples")
            _check_decisions(decisions, samples, names, wanted)
            for config in (samples, decisions):
                if await _config_of(context, config.name or "") is None:
                    await context.add_stream(config)
            leases = await _bucket(context, names, wanted, lease)
            return Broker(client, context, names, leases, partitions)
        except ServiceUnavailableError as error:
            raise InputError(
                "the broker has no JetStream, which keeps the samples: start it with -js or jetstream {}"
            ) from error
        except APIError as error:
            if error.code is None or error.code >= 500:  # a cluster without a leader, or a full disk
                await asyncio.sleep(_AGAIN)
                continue
            raise InputError(f"the broker refuses the streams: {error.description}") from error
        except (Error, OSError, asyncio.TimeoutError):
            await asyncio.sleep(_AGAIN)


async def _config_of(context: JetStreamContext, name: str) -> StreamConfig | None:
    """The configuration of a stream of the broker, None without one."""
    from nats.js.errors import NotFoundError

    try:
        return (await context.stream_info(name)).config
    except NotFoundError:
        return None


async def _bucket(context: JetStreamContext, names: Names, wanted: Wanted, lease: float) -> KeyValue:
    from nats.js.api import StorageType

    # Not in memory: a server alone forgets such a bucket when it starts again.
    return await context.create_key_value(
        bucket=names.leases, ttl=lease, history=1, storage=StorageType.FILE, replicas=wanted.replicas
    )


def _samples_config(names: Names, wanted: Wanted) -> StreamConfig:
    from nats.js.api import DiscardPolicy, StorageType, StreamConfig, SubjectTransform

    return StreamConfig(
        name=names.samples,
        subjects=[f"{names.samples}.*"],
        # The broker chooses the partition, so devices need not know how many there are.
        subject_transform=SubjectTransform(
            src=f"{names.samples}.*",
            dest=f"{names.samples}.{{{{partition({wanted.partitions},1)}}}}.{{{{wildcard(1)}}}}",
        ),
        max_age=wanted.kept,
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        duplicate_window=_DOUBLES_SECONDS,
        num_replicas=wanted.replicas,
    )


def _decisions_config(names: Names, wanted: Wanted) -> StreamConfig:
    from nats.js.api import DiscardPolicy, StorageType, StoreCompression, StreamConfig

    return StreamConfig(
        name=names.decisions,
        subjects=[f"{names.decisions}.*"],
        storage=StorageType.FILE,
        # The last decision of a patient says where the next worker starts: it must not be dropped.
        discard=DiscardPolicy.NEW,
        compression=StoreCompression.S2,
        duplicate_window=_DOUBLES_SECONDS,
        num_replicas=wanted.replicas,
        metadata={_SETTINGS: _text(wanted.settings)},
    )


def _partitions_of(samples: StreamConfig, names: Names) -> int:
    transform = samples.subject_transform
    pattern = rf"{names.samples}\.\{{\{{partition\((\d+),1\)\}}\}}\.\{{\{{wildcard\(1\)\}}\}}"
    found = None if transform is None else re.fullmatch(pattern, transform.dest.replace(" ", ""))
    if found is None:
        raise InputError(
            f"the stream {names.samples} has no partitions, so no worker made it: give another --samples"
        )
    return int(found[1])


def _check_decisions(decisions: StreamConfig, samples: StreamConfig, names: Names, wanted: Wanted) -> None:
    agreed = (decisions.metadata or {}).get(_SETTINGS)
    if agreed is None:
        raise InputError(f"the stream {names.decisions} is not of a fleet: give another --decisions")
    try:
        theirs = json.loads(agreed)
    except ValueError:
        theirs = {}
    mine = json.loads(_text(wanted.settings))
    for key in sorted(mine):
        if theirs.get(key) != mine[key]:
            raise InputError(
                f"the stream {names.decisions} has {key} {_short(theirs.get(key))}, this worker "
                f"{_short(mine[key])}: give the same, or another --decisions"
            )
    kept, age = samples.max_age or 0.0, decisions.max_age or 0.0
    if age and (not kept or age < 2 * kept):
        raise InputError(
            f"the stream {names.decisions} keeps messages for {age:g} s, expected at least twice as long as "
            f"the samples, which are kept for {kept:g} s"
        )


def _text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _short(value: Any) -> str:
    return f"{json.dumps(value, ensure_ascii=False):.60}"
