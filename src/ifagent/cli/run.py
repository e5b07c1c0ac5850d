"""``ifagent run``: the service."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import anyio
import click

from ifagent import capabilities
from ifagent.agent import Agent
from ifagent.agent_socket import default_socket
from ifagent.cli import logs
from ifagent.cli.memory import hand_back_memory
from ifagent.cli.options import place_options
from ifagent.cli.policy_options import policy_options
from ifagent.cli.privilege import join_group, reduce_to_needs
from ifagent.cli.resolve import check_label, make_settings, socket_of
from ifagent.cli.signals import END_TIME, cancelled_on_signal
from ifagent.cli.store_options import store_accesses
from ifagent.cli.systemd import notify, run_notify
from ifagent.kernel.contract import Kernel
from ifagent.log import log
from ifagent.outlets.contract import Outlet
from ifagent.outlets.local_socket import LocalSocket
from ifagent.settings import Settings
from ifagent.stores.contract import Access
from ifagent.stores.registry import backend_of, open_outlets, open_source


@click.command("run")
@place_options(several=True)
@click.option(
    "--netns-dir",
    type=click.Path(path_type=Path),
    default="/run/netns",
    envvar="IFAGENT_NETNS_DIR",
    show_envvar=True,
    show_default=True,
    help="Directory of named network namespaces.",
)
@click.option(
    "--private-mounts",
    is_flag=True,
    envvar="IFAGENT_PRIVATE_MOUNTS",
    show_envvar=True,
    help="Do not warn that named namespaces made by the agent are invisible to the host.",
)
@click.option(
    "--proc-root",
    type=click.Path(path_type=Path),
    default="/proc",
    envvar="IFAGENT_PROC_ROOT",
    show_envvar=True,
    show_default=True,
    help="The host's /proc, for an agent in a pid namespace of its own.",
)
@click.option(
    "--container-socket",
    "container_sockets",
    type=click.Path(path_type=Path, readable=False),  # the engine may start, or grant access, later
    multiple=True,
    envvar="IFAGENT_CONTAINER_SOCKET",
    show_envvar=True,
    help="A container engine's unix socket; may be repeated.  [default: DOCKER_HOST, or docker and podman]",
)
@click.option(
    "--microservice-variable",
    default="MICROSERVICE_LABEL",
    envvar="IFAGENT_MICROSERVICE_VARIABLE",
    show_envvar=True,
    show_default=True,
    help="The container environment variable that holds its microservice label.",
)
@click.option(
    "--resync-interval",
    type=float,
    default=1800.0,
    envvar="IFAGENT_RESYNC_INTERVAL",
    show_envvar=True,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between full resyncs with the kernel.",
)
@policy_options
@click.option(
    "--counters",
    type=float,
    envvar="IFAGENT_COUNTERS",
    show_envvar=True,
    metavar="SECONDS",
    help="Interval at which to read link counters for states and metrics. Off unless given.",
)
@click.option(
    "--http",
    envvar="IFAGENT_HTTP",
    show_envvar=True,
    metavar="IP:PORT",
    help="Address for HTTP probes, metrics and states. Off unless given; loopback only, such as 127.0.0.1:9100.",
)
@click.option(
    "--http-public",
    is_flag=True,
    envvar="IFAGENT_HTTP_PUBLIC",
    show_envvar=True,
    help="Allow --http on an address that other machines can reach; there is no authentication.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    envvar=["IFAGENT_STATE_DIR", "STATE_DIRECTORY"],
    show_envvar=True,
    help="Directory to cache etcd's declarations in, for starts without etcd. Off unless given.",
)
@click.option(
    "--runtime-dir",
    type=click.Path(path_type=Path),
    envvar="IFAGENT_RUNTIME_DIR",
    show_envvar=True,
    help="Directory in which to remember adopted TAPs and created namespaces.  [default: the socket's directory]",
)
@click.option(
    "--socket-group",
    envvar="IFAGENT_SOCKET_GROUP",
    show_envvar=True,
    metavar="GROUP",
    help="The group, by name or number, that may use the socket.  [default: the agent's own]",
)
def command(
    *,
    stores: tuple[str, ...],
    label: str,
    socket: Path | None,
    log_level: str,
    log_format: str,
    http: str | None,
    http_public: bool,
    state_dir: Path | None,
    runtime_dir: Path | None,
    socket_group: str | None,
    container_sockets: tuple[Path, ...],
    **settings: object,
) -> None:
    """Run the agent: reconcile this host's interfaces with the declared ones.

    Runs until SIGTERM, SIGINT or SIGHUP and leaves the interfaces as they are. States are published on the local
    socket and, with an etcd store, in etcd.
    """
    logs.configure(level=log_level, format=log_format)
    logs.hold()
    made = make_settings(
        label=label,
        container_sockets=container_sockets or None,
        runtime_dir=runtime_dir or socket_of(label=label, socket=socket).parent,
        **settings,
    )
    _raise_file_limit()
    _collect_garbage_rarely()
    capabilities.raise_effective()
    group = join_group(socket_group) if socket_group else None
    service = partial(
        serve,
        made,
        stores,
        socket,
        accesses=store_accesses(stores),
        http=http,
        http_public=http_public,
        state_dir=state_dir,
        socket_group=group,
        ready_to_start=partial(_drop_privileges, made),
        end_within=END_TIME,
    )
    anyio.run(service, backend="asyncio")


def _drop_privileges(settings: Settings, ports: Collection[int]) -> None:
    """Drop unneeded capabilities while there is a single thread, then allow others."""
    reduce_to_needs(settings, ports=ports)
    logs.release()


def _raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit: namespaces and processes need some each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _collect_garbage_rarely() -> None:
    """Collect garbage only after many allocations: most objects of an agent live long, and a collection visits them.

    A collection of young objects blocks the process for some 30 ms at most.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 80)


async def serve(
    settings: Settings,
    stores: Sequence[str],
    socket: Path | None = None,
    kernel: Kernel | None = None,
    *,
    accesses: Mapping[str, Access] | None = None,
    http: str | None = None,
    http_public: bool = False,
    state_dir: Path | None = None,
    socket_group: int | None = None,
    ready_to_start: Callable[[Collection[int]], None] = lambda _: None,
    end_within: float | None = None,
) -> None:
    """Run an agent with its outlets until SIGTERM, SIGINT or SIGHUP.

    With ``socket`` ``None`` it is the default one, without which an unprivileged agent may run. ``accesses`` are
    credentials for stores, by the names of their kinds; ``state_dir`` is where the last known intent of remote stores
    is kept, ``None`` for nowhere. ``socket_group`` is the id of a group of the process whose members may use the
    socket, ``None`` for its own. ``ready_to_start`` is called with the TCP ports to listen on, after all arguments have
    been checked and before anything is started. With ``end_within`` the process exits that many seconds after the
    signal, even if something hangs.
    """
    label = check_label(settings.label)
    accesses = accesses or {}
    sources = [
        open_source(store, label=label, access=accesses.get(backend_of(store).name), state_dir=state_dir)
        for store in stores
    ]
    agent = Agent(settings, sources=sources, kernel=kernel)
    outlets: list[Outlet] = [_http_server(http, public=http_public)] if http else []
    outlets += open_outlets(stores, label=label, accesses=accesses)
    # An unprivileged agent may lack permission to create the default socket.
    required = socket is not None or os.geteuid() == 0
    outlets.append(LocalSocket(socket or default_socket(label), group=socket_group, required=required))
    ready_to_start([port for outlet in outlets for port in outlet.ports])
    agent.take_label()
    until_signal = anyio.CancelScope()
    with until_signal, cancelled_on_signal(until_signal, end_within=end_within):
        await _run(agent, outlets, stores=stores)


async def _run(agent: Agent, outlets: Sequence[Outlet], *, stores: Sequence[str]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run_notify, agent.statistics)
        group.start_soon(hand_back_memory, agent, *outlets)
        log.info("agent started", label=agent.settings.label, stores=" ".join(stores))
        for outlet in outlets:
            await group.start(outlet.run, agent)
        try:
            await group.start(agent.run)
            notify("READY=1")
            await anyio.sleep_forever()
        finally:
            notify("STOPPING=1")
            log.info("agent stopping, interfaces stay as they are")


def _http_server(address: str, *, public: bool) -> Outlet:
    from ifagent.outlets.http import HttpServer

    return HttpServer(address, public=public)
