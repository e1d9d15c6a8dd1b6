"""An emulated 82599 in this process, served on a vfio-user socket: the guest drives it, the test has its object."""

from __future__ import annotations

import tempfile
import threading
import types
from pathlib import Path
from typing import Any

from ixrings.hw.emulator import DEFAULT_MAC, Emulated82599
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
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self._trace = (folder / f"{name}.trace").open("w", buffering=1 << 16)
        # The path of a UNIX socket has at most 107 bytes, so the socket is not in `folder`, whose path may be longer.
        self._home = tempfile.TemporaryDirectory(prefix="ixrings-")
        self.socket = Path(self._home.name) / "nic.sock"
        self.nic = Emulated82599(wire, mac=mac, **options)
        self._server = Server(self.nic, str(self.socket), trap_all=trap_all, ask_beyond=ask_beyond, trace=self._note)
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
        (self.folder / f"{self.name}.findings").write_text(
            "".join(f"{violation}\n" for violation in self.nic.violations)
        )
        self._server.close()
        self.nic.close()
        self._home.cleanup()
        assert not self._thread.is_alive(), "the vfio-user server did not stop"

    def __enter__(self) -> ServedNic:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()
