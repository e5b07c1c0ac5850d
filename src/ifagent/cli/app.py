"""The group of all commands, each in a module of its own that is imported when needed."""

from __future__ import annotations

import importlib
from typing import Any

import click

from ifagent.cli.failures import report_errors

COMMANDS = {
    "run": "Run the agent: reconcile this host's interfaces with the declared ones.",
    "apply": "Declare the interfaces in files.",
    "get": "Show declared and actual interfaces side by side.",
    "delete": "Delete declarations.",
    "states": "Show the state of every interface.",
    "watch": "Stream interface states: a snapshot, then every change.",
    "wait": "Wait until interfaces are applied as currently declared.",
    "validate": "Check files of interfaces without applying them.",
    "demo": "Demonstrate the agent on a small lab in private namespaces.",
}
"""Every command with the first sentence of its help; the module ``ifagent.cli.NAME`` has it as ``command``."""


class App(click.Group):
    """Imports a command's module when it is needed; reports errors as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """List the commands in the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 likewise
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ifagent.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 likewise
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with report_errors():
            return super().invoke(ctx)


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="ifagent", message="%(prog)s %(version)s")
def app() -> None:
    """Keep Linux network interfaces as their owners declared them.

    Interfaces are declared in etcd or in files (--store). Every option can also be set in the environment
    (IFAGENT_STORE, IFAGENT_LABEL, ...) or in a TOML file (--config).
    """
