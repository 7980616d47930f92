"""The ``multires-edge`` command. A subcommand imports heavy packages only when it runs."""

from __future__ import annotations

import click

from multires_edge.cli.command import Group
from multires_edge.cli.commands.archive import archive
from multires_edge.cli.commands.bench import bench
from multires_edge.cli.commands.build import build
from multires_edge.cli.commands.calibrate import calibrate
from multires_edge.cli.commands.cmake_dir import cmake_dir
from multires_edge.cli.commands.deploy import deploy
from multires_edge.cli.commands.doctor import doctor
from multires_edge.cli.commands.evaluate import evaluate
from multires_edge.cli.commands.export import export
from multires_edge.cli.commands.inspect import inspect
from multires_edge.cli.commands.kit import kit
from multires_edge.cli.commands.mcu import mcu
from multires_edge.cli.commands.monitor import monitor
from multires_edge.cli.commands.page import page
from multires_edge.cli.commands.push import push
from multires_edge.cli.commands.sample import sample
from multires_edge.cli.commands.serve import serve
from multires_edge.cli.commands.sign import sign
from multires_edge.cli.commands.stream import stream
from multires_edge.cli.commands.targets import targets
from multires_edge.cli.commands.triton import triton
from multires_edge.cli.commands.verify import verify


@click.group(cls=Group)
def main() -> None:
    """Trained MultiresNets on edge devices: export, prove, run.

    docs/commands.md has the exit codes and shows how to complete commands in a shell.
    """


COMMANDS = (
    *(export, calibrate, targets, build, verify, evaluate, sign, deploy, push),
    *(stream, monitor, serve, archive, bench, kit, mcu, page, triton, sample, inspect, doctor, cmake_dir),
)
for command in COMMANDS:
    main.add_command(command)
