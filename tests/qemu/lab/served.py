"""An emulated 82599 in this process, at vfio-user sockets: guests drive it or its VFs, the test has its object."""

from __future__ import annotations

import tempfile
import threading
import types
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ixrings.hw.emulator import DEFAULT_MAC, Emulated82599, PfAgent
from ixrings.hw.vfio_user.regions import Function
from ixrings.hw.vfio_user.server import Server

STOP_S = 10.0

# Rules that Linux's ixgbe is known to break; hw/emulator/README.md has the table.
LINUX_DOES = {
    "buffer_length",
    "dca_enabled_in_dca_ctrl",
    "director_command_awaited",
    "dma_init_awaited",
    "dtxmxszrq_at_most",
    "eeprom_awaited",
    "fctrl_while_reception_is_off",
    "filter_tables_initialized",
    "firmware_status_read",
    "interrupts_masked_after_reset",
    "pause_threshold_set",
    "rate_limits_cleared",
    "receive_descriptor_cleared",
}
# Rules that Linux's ixgbevf is known to break; hw/emulator/README.md has the table.
IXGBEVF_DOES = {"buffer_length", "receive_descriptor_cleared"}
# Rules that `ethtool -t` is known to break; hw/emulator/README.md has the table.
ETHTOOL_TEST_DOES = {
    "crc_strip_agrees",
    "dca_rxctrl_bit_12",
    "rdrxctl_settings",
    "ring_alignment",
    "ring_before_enable",
    "ring_length",
    "rxen_with_the_path_stopped",
    "tail_after_enable",
    "tail_within_ring",
}


class Serving:
    """Serves `function` at `socket`, in a thread. folder/NAME.trace gets every message of the client."""

    def __init__(self, folder: Path, name: str, function: Function, **options: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._trace = (folder / f"{name}.trace").open("w", buffering=1 << 16)
        # The path of a UNIX socket has at most 107 bytes, so the socket is not in `folder`, whose path may be longer.
        self._home = tempfile.TemporaryDirectory(prefix="ixrings-")
        self.socket = Path(self._home.name) / "nic.sock"
        self._server = Server(function, str(self.socket), trace=self._note, **options)
        self._thread = threading.Thread(target=self._server.serve, name="vfio-user")
        self._thread.start()

    def _note(self, line: str) -> None:
        self._trace.write(line + "\n")

    @property
    def trace(self) -> str:
        """The client's messages so far, one a line."""
        self._trace.flush()
        return Path(self._trace.name).read_text()

    def close(self) -> None:
        self._server.stop()
        self._thread.join(STOP_S)
        self._trace.close()
        self._server.close()
        self._home.cleanup()
        assert not self._thread.is_alive(), "the vfio-user server did not stop"


class ServedNic:
    """Serves `nic` at `socket`. folder/NAME.trace gets every message of the client, and at the end folder/NAME.findings
    gets the broken rules."""

    def __init__(
        self,
        folder: Path,
        wire: str,
        *,
        name: str = "nic",
        mac: bytes = DEFAULT_MAC,
        trap_all: bool = False,
        ask_beyond: bool = False,
        **options: Any,
    ) -> None:
        self.folder, self.name = folder, name
        self.nic = Emulated82599(wire, mac=mac, **options)
        self._serving = Serving(folder, name, self.nic, trap_all=trap_all, ask_beyond=ask_beyond)
        self.socket = self._serving.socket

    @property
    def trace(self) -> str:
        return self._serving.trace

    def close(self) -> None:
        with self.nic:
            self._serving.close()
            write_findings(self.folder / f"{self.name}.findings", self.nic)

    def __enter__(self) -> ServedNic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


class ServedVfs:
    """Serves the `count` VFs of `nic` at `sockets`, or only those of `numbers`; `agent` plays the PF's driver, as
    `kind`. Files as of ServedNic, the traces are NAME-vf0.trace and so on."""

    def __init__(
        self,
        folder: Path,
        wire: str,
        count: int,
        kind: str = "linux",
        *,
        numbers: Sequence[int] = (),
        name: str = "nic",
        **options: Any,
    ) -> None:
        with ExitStack() as undo:
            self.nic = undo.enter_context(Emulated82599(wire, vfs=count, **options))
            undo.callback(write_findings, folder / f"{name}.findings", self.nic)
            self.agent = undo.enter_context(PfAgent(self.nic, kind))
            self.serving = list[Serving]()
            for number in numbers or range(count):
                self.serving.append(Serving(folder, f"{name}-vf{number}", self.nic.vf(number)))
                undo.callback(self.serving[-1].close)
            self._undo = undo.pop_all()
        self.sockets = [each.socket for each in self.serving]

    def close(self) -> None:
        self._undo.close()

    def __enter__(self) -> ServedVfs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_findings(file: Path, nic: Emulated82599) -> None:
    """The broken rules."""
    file.write_text("".join(f"{violation}\n" for violation in nic.violations))
