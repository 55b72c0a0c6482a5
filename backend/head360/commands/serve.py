"""``head360 serve | status | models``: run a backend, ask the running ones, list the models."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from head360 import connection
from head360.commands import add_device, add_json, emit_json, say
from head360.errors import BadInput, Head360Error, TryAgain


def register(commands: Any) -> None:
    """Add the group's commands to ``argparse`` subparsers."""
    serve = commands.add_parser("serve", help="run the backend for Blender on this machine")
    serve.add_argument("--bind", default="tcp://127.0.0.1:0", help="tcp://127.0.0.1:PORT")
    _add_runtime_dir(serve)
    _add_models(serve)
    add_device(serve)
    parent = serve.add_mutually_exclusive_group()
    parent.add_argument("--parent-pipe", type=int, metavar="FD", help="leave when this pipe ends")
    parent.add_argument("--parent-pid", type=int, metavar="PID", help="leave with this process")
    serve.add_argument("--idle-exit", type=float, metavar="S", help="leave after S idle seconds")
    serve.add_argument("--boot-id", help=argparse.SUPPRESS)
    serve.add_argument(
        "--diffusion",
        default="",
        metavar="MODEL",
        help="folder or hub id of an InstructPix2Pix model for Edit by Text",
    )
    # Tests only: replaces ``heads.load`` by ``module:function``.
    serve.add_argument(
        "--head-factory",
        default=os.environ.get("HEAD360_HEAD_FACTORY", ""),
        help=argparse.SUPPRESS,
    )
    serve.set_defaults(run=_serve)

    status = commands.add_parser(
        "status",
        help="show the running backends of this user",
        description="Ends with exit code 75 where no backend runs or none can be reached.",
    )
    _add_runtime_dir(status)
    add_json(status)
    status.set_defaults(run=_status)

    models = commands.add_parser("models", help="list the installed models, or describe one")
    models.add_argument("name", nargs="?", metavar="NAME", help="a model's name or path")
    _add_models(models)
    add_json(models)
    models.set_defaults(run=_models)


def _add_runtime_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime-dir", type=Path, help="private folder of the connection file (mode 0700)"
    )


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of model packages, or one package; may be repeated",
    )


def _serve(arguments: argparse.Namespace) -> int:
    from head360.server.gateway import Gateway
    from head360.server.heads_table import check_places
    from head360.server.surroundings import Options

    check_places(arguments.models)
    options: dict[str, Any] = {
        "runtime_dir": arguments.runtime_dir or connection.default_runtime_dir(),
        "bind": arguments.bind,
        "models": arguments.models,
        "device": arguments.device,
        "parent_pipe": arguments.parent_pipe,
        "parent_pid": arguments.parent_pid,
        "idle_exit": arguments.idle_exit,
        "factory": arguments.head_factory,
        "diffusion": arguments.diffusion,
    }
    if arguments.boot_id:
        if not arguments.boot_id.isalnum() or len(arguments.boot_id) > 64:
            raise BadInput("The boot id is made of letters and digits.")
        options["boot_id"] = arguments.boot_id
    Gateway(Options(**options)).run()
    return 0


def _status(arguments: argparse.Namespace) -> int:
    import msgspec

    from head360.client import Client

    servers: list[dict[str, Any]] = []
    for file in connection.find(arguments.runtime_dir or connection.default_runtime_dir()):
        try:
            with Client.connect(file, timeout=3.0) as client:
                status = msgspec.to_builtins(client.status())
                welcome = client.welcome
                status |= {"version": welcome.server, "device": welcome.device, "pid": welcome.pid}
                status["models"] = welcome.models
        except Head360Error as error:
            servers.append({"file": str(file), "error": str(error)})
        else:
            servers.append({"file": str(file), **status})
    reached = any("error" not in server for server in servers)
    code = 0 if reached else TryAgain.exit_code
    if arguments.json:
        emit_json({"servers": servers})
        return code
    if not servers:
        say("No backend is running.")
    for server in servers:
        if "error" in server:
            say(f"{server['file']}: {server['error']}")
        else:
            say(
                f"head360 {server['version']} (process {server['pid']}) on {server['device']}: "
                f"renderer {server['worker']}, {server['queued']} waiting, up "
                f"{server['uptime_s']:.0f} s"
            )
    return code


def _models(arguments: argparse.Namespace) -> int:
    import msgspec

    from head360.server.heads_table import check_places, resolve, scan

    check_places(arguments.models)
    if arguments.name:
        found = [resolve(arguments.name, arguments.models)]
    else:
        models, damaged = scan(arguments.models)
        found = list(models.values())
        for error in damaged.values():
            say(f"head360: {error}")
    rows = [
        {**msgspec.to_builtins(model.info), "path": str(model.path), "digest": model.digest}
        for model in found
    ]
    if arguments.json:
        emit_json(rows[0] if arguments.name else {"models": rows})
        return 0
    if not rows:
        say("No models are installed.")
    for row in rows:
        say(f"{row['name']} ({row['kind'] or 'unknown kind'}) {row['path']}")
        if arguments.name:
            say(f"  subjects: {', '.join(row['subjects']) or '-'}")
            say(f"  styles:   {', '.join(row['styles']) or '-'}")
            say(f"  licence:  {row['licence'] or '-'}")
            say(f"  made of:  {row['note'] or '-'}")
    return 0
