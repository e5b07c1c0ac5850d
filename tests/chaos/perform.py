"""Doing what a script says, to real things, and telling the model of it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from chaos import look
from chaos.actions import Action, Drift, Foreign, Pause, Simple, Store, What
from chaos.intent import Intent
from chaos.stage import Stage
from chaos.values import OWN, Space, bad_value, encode
from docker_engine import Refused
from lab import until
from sysctl import sysctl


class Performer:
    """Carries out actions; what cannot be done at the moment has no effect, such as deleting what is not there."""

    def __init__(self, stage: Stage, intent: Intent) -> None:
        self.stage = stage
        self.intent = intent
        self._simple: dict[What, Callable[[str], None]] = {
            What.NAMESPACE_ADD: self._add_namespace,
            What.NAMESPACE_DELETE: self._delete_namespace,
            What.PROCESS_START: stage.start_process,
            What.PROCESS_JOIN: lambda target: stage.join_process(*target.split()),
            What.PROCESS_KILL: stage.end_process,
            What.IPV6_OFF: lambda name: self._set_ipv6(name, on=False),
            What.IPV6_ON: lambda name: self._set_ipv6(name, on=True),
            What.FILE_MOUNT: self._mount,
            What.FILE_UNMOUNT: self._unmount,
            What.FILE_ORDINARY: self._make_ordinary,
            What.CONTAINER_START: self._start_container,
            What.CONTAINER_STOP: lambda slot: self._end_container(slot, kill=False),
            What.CONTAINER_KILL: lambda slot: self._end_container(slot, kill=True),
            What.CONTAINER_RESTART: self._restart_container,
            What.DOCKER_KILL: lambda _: self._kill_docker(),
            What.DOCKER_START: lambda _: self._start_docker(),
            What.TAP_MAKE: self._make_tap,
            What.TAP_DELETE: self._delete_tap,
            What.ETCD_STOP: lambda _: stage.etcd.stop(),
            What.ETCD_KILL: lambda _: stage.etcd.kill(),
            What.ETCD_START: lambda _: stage.etcd.start(),
            What.ETCD_COMPACT: lambda _: stage.store.compact(),
            What.ETCD_RESET: lambda _: stage.wire.reset(),
            What.ETCD_FREEZE: lambda _: stage.etcd.pause(),
            What.ETCD_THAW: lambda _: stage.etcd.resume(),
            What.HOLE_BEGIN: lambda _: stage.wire.swallow(),
            What.HOLE_END: lambda _: stage.wire.flow(),
            What.AGENT_FREEZE: lambda _: stage.signal_agent(signal.SIGSTOP),
            What.AGENT_THAW: lambda _: stage.signal_agent(signal.SIGCONT),
            What.AGENT_KILL: lambda _: stage.end_agent(signal.SIGKILL),
            What.AGENT_TERM: lambda _: stage.end_agent(signal.SIGTERM),
            What.AGENT_START: lambda _: self._start_agent(),
        }

    def perform(self, action: Action) -> None:
        """Carry out one action."""
        match action:
            case Pause(seconds):
                time.sleep(seconds)
            case Simple(what, target):
                self._simple[what](target)
            case Store():
                self._write(action)
            case Drift():
                self._drift(action)
            case Foreign():
                self._change_foreign(action)

    # The store and the agent

    def _write(self, action: Store) -> None:
        puts = {}
        for value in action.puts:
            wish = None
            if value.wish is not None:
                wish = replace(value.wish, space=self.stage.real(value.wish.space))
            data = bad_value(value.which, value.name) if wish is None else encode(wish, value.form)
            puts[value.name, value.form.family] = data
            self.intent.put(value.name, value.form.family, wish)
        self.stage.store.write(puts, list(action.deletes))
        for name, family in action.deletes:
            self.intent.delete(name, family)

    def _start_agent(self) -> None:
        self.stage.start_agent()
        self.intent.restart(remembers=self.stage.remembers)

    # The kernel

    def _ip(self, space: Space, *words: str) -> bool:
        path = self.stage.path(space)
        return bool(path) and not look.inside(path, "ip", *words).returncode

    def _drift(self, action: Drift) -> None:
        path = self.stage.path(action.space)
        if not path or (look.space_at(path), action.host_name) in self.stage.foreign:
            return
        # The kernel does not tell of an alias that changes on a link that is down.
        if "alias" in action.words and ",UP" not in look.inside(path, "ip", "link", "show", action.host_name).stdout:
            return
        words = [action.host_name if word == "DEV" else word for word in action.words]
        # It may be moved where the agent removes a namespace just then.
        self.stage.taps_at_risk |= action.to is not None
        if action.to == OWN:
            # This process is in there, and stays.
            words.append(str(Path("/proc/self").resolve().name))
        elif action.to is not None:
            words.append(action.to.reference)
        look.inside(path, "ip", *words)

    def _change_foreign(self, action: Foreign) -> None:
        path = self.stage.path(action.space)
        if not path:
            return
        place = look.space_at(path), action.host_name
        if not action.add:
            if place in self.stage.foreign and self._ip(action.space, "link", "delete", "dev", action.host_name):
                self.stage.foreign.discard(place)
        elif self._ip(action.space, "link", "add", "name", action.host_name, "type", "bridge"):
            self.stage.foreign.add(place)
            self.stage.fresh.add(place)

    def _add_namespace(self, name: str) -> None:
        if _run("ip", "netns", "add", name):
            self.stage.namespaces.add(name)

    def _delete_namespace(self, name: str) -> None:
        # A pair that is in there with both ends would live on, out of reach, while a process keeps the namespace.
        space = look.space_at(self.stage.path(Space("named", name)) or "/nowhere")
        for slot in [slot for slot, process in self.stage.processes.items() if space and process.space == space]:
            self.stage.end_process(slot)
        self.stage.end_space(Space("named", name), lambda: _run("ip", "netns", "delete", name))
        if not self.stage.path(Space("named", name)):
            self.stage.namespaces.discard(name)

    def _set_ipv6(self, name: str, *, on: bool) -> None:
        if path := self.stage.path(Space("named", name)):
            settings = [f"net.ipv6.conf.{which}.disable_ipv6={int(not on)}" for which in ("default", "all")]
            look.inside(path, *sysctl(*settings))

    def _make_tap(self, name: str) -> None:
        seen = self.stage.observe()
        if name in self.stage.facts(seen).taps:
            return
        if _run("ip", "tuntap", "add", "dev", name, "mode", "tap"):
            # It may be adopted in the next moment; its MAC stays, or is in its alias.
            self.stage.taps[name] = until(lambda: self._mac_of_tap(name))

    def _mac_of_tap(self, name: str) -> str:
        for link in self.stage.observe().links:
            if link.tap == name:
                return link.alias.split("/")[3] if link.alias else link.mac
        return ""

    def _delete_tap(self, name: str) -> None:
        """End a TAP wherever it is, as its creator does by closing it."""
        for link in self.stage.observe().links:
            if link.tap == name:
                path = next(p for p in self._paths() if look.space_at(p) == link.space)
                if not look.inside(path, "ip", "link", "delete", "dev", link.host_name).returncode:
                    self.stage.taps.pop(name, None)

    def _paths(self) -> list[str]:
        spaces = [OWN, *(Space("named", name) for name in look.named()[0]), *self.stage.other_spaces()]
        return [path for space in spaces if (path := self.stage.path(space))]

    # Files

    def _mount(self, slot: str) -> None:
        path = self.stage.folder / slot
        path.unlink(missing_ok=True)
        path.touch()
        _run("unshare", f"--net={path}", "true")

    def _unmount(self, slot: str) -> None:
        path = self.stage.folder / slot
        self.stage.end_space(Space("file", slot), lambda: _run("umount", "--lazy", str(path)))
        path.unlink(missing_ok=True)

    def _make_ordinary(self, slot: str) -> None:
        self._unmount(slot)
        (self.stage.folder / slot).write_text("no namespace")

    # Containers

    def _start_container(self, slot: str) -> None:
        if self.stage.docker is not None:
            box = self.stage.boxes[slot] = self.stage.docker.run(slot)
            self.stage.pids[slot] = box.pid

    def _end_container(self, slot: str, *, kill: bool) -> None:
        box = self.stage.boxes[slot]

        def end() -> None:
            del self.stage.boxes[slot]
            with suppress(Refused):
                if not kill:
                    box.stop()
            box.remove()

        self.stage.end_space(Space("microservice", slot), end)

    def _restart_container(self, slot: str) -> None:
        box = self.stage.boxes[slot]
        self.stage.end_space(Space("microservice", slot), box.restart)
        self.stage.pids[slot] = box.pid

    def _kill_docker(self) -> None:
        if self.stage.docker is not None:
            self.stage.docker.kill()

    def _start_docker(self) -> None:
        if self.stage.docker is not None:
            self.stage.docker.start()


def _run(*command: str) -> bool:
    return not subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).returncode
