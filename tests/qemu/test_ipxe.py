"""iPXE's intelx drives our NIC: DHCP, ping, and the download of a script of 1 MB, which iPXE then runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ixrings.hw.emulator import DEFAULT_MAC
from tests.qemu.lab import boot_server
from tests.qemu.lab.guest import machine, network_cards
from tests.qemu.lab.host_end import HostEnd
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import ServedNic
from tests.support.namespaces import namespace, unique

pytestmark = pytest.mark.qemu

BOOT_S = 90.0
DOWNLOAD = 1_000_000
MEMORY_MB = 256
# A command that fails ends the script.
FIRST = f"#!ipxe\ndhcp net0\nping -c 3 {boot_server.SERVER}\nchain http://{boot_server.SERVER}/second.ipxe\n"
LAST_LINE = f"imgfetch http://{boot_server.SERVER}/done-${{net0/ip}}\n"
# Rules that iPXE is known to break; hw/emulator/README.md has the table.
IPXE_DOES = {
    "crc_strip_agrees",
    "dma_init_awaited",
    "dtxmxszrq_at_most",
    "eeprom_awaited",
    "filter_tables_initialized",
    "firmware_status_read",
    "master_disable_before_reset",
    "no_snoop_disabled",
    "pause_threshold_set",
    "rate_limits_cleared",
    "rdrxctl_settings",
    "rxen_with_the_path_stopped",
    "tail_after_enable",
    "te_before_queues",
}


@contextmanager
def booting(lab: Lab, folder: Path, nic: Path) -> Iterator[None]:
    """A machine that boots iPXE with the script FIRST; its screen goes to folder/console.log."""
    (folder / "first.ipxe").write_text(FIRST)
    command = [*lab.qemu_command(), *machine(MEMORY_MB, iommu=False), "-machine", "graphics=off"]
    command += ["-chardev", f"file,id=console,path={folder / 'console.log'}", "-serial", "chardev:console"]
    command += ["-kernel", str(lab.ipxe), "-initrd", str(folder / "first.ipxe"), *network_cards([nic], functions=False)]
    with (folder / "qemu.log").open("wb") as log:
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=lab.qemu_environment())
    try:
        yield
    finally:
        qemu.kill()
        qemu.wait()


def test_ipxe_gets_an_address_and_runs_a_script_that_it_downloads(lab: Lab, folder: Path) -> None:
    tap = unique("ixq")
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    comment = f"# {'x' * 61}\n"
    (files / "second.ipxe").write_text("#!ipxe\n" + comment * (DOWNLOAD // len(comment)) + LAST_LINE)
    with namespace("ixH") as space, ServedNic(folder, f"tap={tap}") as served:
        HostEnd(space, tap)
        command = space.command(sys.executable, boot_server.__file__, tap, str(files))
        command = ["timeout", "-s", "KILL", str(BOOT_S), *command]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
            assert server.stdout is not None and server.stdout.readline() == "listening\n"
            with booting(lab, folder, served.socket):
                seen = []
                for line in server.stdout:
                    seen.append(line.strip())
                    if "done" in line:
                        break
            os.killpg(server.pid, signal.SIGKILL)  # `timeout` and the server
        assert list(dict.fromkeys(seen)) == [
            f"DISCOVER {DEFAULT_MAC.hex(':')}",
            f"REQUEST {DEFAULT_MAC.hex(':')}",
            "GET /second.ipxe",
            f"GET /done-{boot_server.CLIENT}",
        ]
        assert {violation.rule.name for violation in served.nic.violations} <= IPXE_DOES
