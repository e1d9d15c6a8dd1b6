"""An emulated 82599 in this process, behind a vfio-user socket: the guest has the registers, the test has the object."""

from __future__ import annotations

import tempfile
import threading
import types
from pathlib import Path

from ixrings.hw.emulator import DEFAULT_MAC, Emulated82599
from ixrings.hw.vfio_user.server import Server

STOP_S = 10.0

# What Linux's ixgbe is known to do against the datasheet; hw/emulator/README.md has the table.
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
# hw/emulator/README.md has the table.
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
    """`nic` at `socket`, every message of its client in folder/name.trace, what it noticed in folder/name.findings at the end."""

    def __init__(
        self,
        folder: Path,
        wire: str,
        *,
        name: str = "nic",
        mac: bytes = DEFAULT_MAC,
        trap_all: bool = False,
        ask_beyond: bool = False,
        **options: object,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name = folder, name
        self._trace = (folder / f"{name}.trace").open("w", buffering=1 << 16)
        # A UNIX socket's path has at most 107 bytes: it stands beside, not in, a folder that a test run named.
        self._home = tempfile.TemporaryDirectory(prefix="ixrings-")
        self.socket = Path(self._home.name) / "nic.sock"
        self.nic = Emulated82599(wire, mac=mac, **options)  # type: ignore[arg-type]  # link_up_s, paced, ... as the caller names them
        self._server = Server(self.nic, str(self.socket), trap_all=trap_all, ask_beyond=ask_beyond, trace=self._note)
        self._thread = threading.Thread(target=self._server.serve, name="vfio-user")
        self._thread.start()

    def _note(self, line: str) -> None:
        self._trace.write(line + "\n")

    @property
    def trace(self) -> str:
        """What the client did so far, a line a message."""
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
