"""libengine.so, the C half of the software 82599, loaded with ctypes. Every call but nic_ring() releases the GIL."""

from __future__ import annotations

import ctypes
import sys
import sysconfig
import weakref
from collections.abc import Callable
from ctypes import CDLL, POINTER, PyDLL, c_bool, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from pathlib import Path

from ...errors import DeviceError
from .findings import FINDINGS_KEPT

LIBRARY = Path(__file__).with_name("libengine.so")
REGISTER_BYTES = 0x20000
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # of the build: the GIL may be on or off


class Finding(ctypes.Structure):
    """`struct finding` of nic.h; `kind` is a FindingKind."""

    _fields_ = [("kind", c_uint32), ("queue", c_uint32), ("values", c_uint64 * 2)]


Signature = tuple[type | None, tuple[type, ...]]  # result, arguments

PROCESS_CALLS: dict[str, Signature] = {
    "nic_create": (c_void_p, ()),
    "engine_free_registers": (None, (c_void_p,)),
    "engine_freeze": (None, ()),
    "engine_resume": (None, ()),
    "engine_guard": (None, (c_bool,)),
    "engine_help": (c_bool, (c_void_p, c_uint64)),
    "engine_help_ends": (None, ()),
}

# The NIC's pointer is the first argument of each.
NIC_CALLS: dict[str, Signature] = {
    "nic_destroy": (None, ()),
    "nic_keep_registers": (None, ()),
    "nic_registers": (c_void_p, ()),
    "nic_start": (c_int, ()),
    "nic_stop": (None, ()),
    "nic_reset": (None, ()),
    "nic_step": (c_uint32, (c_uint32, c_uint64)),
    "nic_set_manual": (None, (c_bool,)),
    "nic_set_paced": (None, (c_bool,)),
    "nic_set_bus_master": (None, (c_bool,)),
    "nic_set_gone": (None, ()),
    "nic_set_cable": (None, (c_bool,)),
    "nic_set_link_delay": (None, (c_uint64,)),
    "nic_set_eventfd": (None, (c_uint32, c_int)),
    "nic_send_messages": (None, ()),
    "nic_link_update": (None, ()),
    "nic_link_train": (None, ()),
    "nic_flush_counters": (None, ()),
    "nic_now": (c_uint64, ()),
    "nic_pause": (None, ()),
    "nic_go_on": (None, ()),
    "nic_watch": (c_bool, (c_bool,)),
    "nic_seen": (c_uint64, (c_void_p,)),
    "nic_interval_left": (c_uint64, (c_uint32,)),
    "nic_set_interval_left": (None, (c_uint32, c_uint64)),
    "nic_time": (c_uint64, ()),
    "nic_set_time": (None, (c_uint64,)),
    "nic_addresses_changed": (None, ()),
    "nic_rss_key_changed": (None, ()),
    "nic_filters_changed": (None, ()),
    "nic_director_init": (None, ()),
    "nic_director_command": (None, ()),
    "nic_rx_queue_changed": (None, (c_uint32,)),
    "nic_rx_buffers_changed": (None, (c_uint32,)),
    "nic_tx_queue_changed": (None, (c_uint32,)),
    "nic_tx_head_writeback_changed": (None, (c_uint32,)),
    "nic_set_rate": (None, (c_uint32, c_uint32)),
    "nic_rate": (c_uint32, (c_uint32,)),
    "nic_rx_head": (c_uint32, (c_uint32,)),
    "nic_tx_head": (c_uint32, (c_uint32,)),
    "nic_rx_head_changed": (None, (c_uint32,)),
    "nic_tx_head_changed": (None, (c_uint32,)),
    "nic_map_dma": (c_int, (c_uint64, c_uint64, c_int, c_uint64, c_uint32)),
    "nic_unmap_dma": (c_int, (c_uint64, c_uint64)),
    "nic_window_count": (c_uint32, ()),
    "nic_break_write_back": (None, (c_bool, c_bool)),
    "nic_peek": (c_bool, (c_uint32, c_uint64, c_void_p, c_uint64)),
    "nic_show_head": (None, (c_bool, c_uint32)),
    "nic_unshare_doorbells": (c_bool, ()),
    "nic_set_line": (None, (c_bool,)),
    "nic_mask_line": (None, (c_bool,)),
    "nic_master_abort": (c_bool, ()),
    "nic_clear_master_abort": (None, ()),
    "nic_disable_line": (None, (c_bool,)),
    "nic_line_asserted": (c_bool, ()),
    "nic_remote_event": (c_int, ()),
    "nic_remote_next": (c_bool, (c_void_p, c_void_p)),
    "nic_remote_answer": (None, (c_uint32, c_bool, c_char_p, c_uint32)),
    "nic_remote_close": (None, ()),
    "nic_finding_count": (c_uint64, ()),
    "nic_clear_findings": (None, ()),
    "nic_findings": (POINTER(Finding), ()),
    "nic_use_function": (None, (c_uint32,)),
    "nic_set_vf_count": (None, (c_uint32,)),
    "nic_send_vf_messages": (None, ()),
    "nic_vf_interval_left": (c_uint64, (c_uint32, c_uint32)),
    "nic_set_vf_interval_left": (None, (c_uint32, c_uint32, c_uint64)),
    "nic_reset_vf": (None, (c_uint32,)),
    "nic_flush_pool_counters": (None, (c_uint32,)),
    "nic_set_drop_enable": (None, (c_uint32, c_bool)),
    "nic_drop_enable": (c_bool, (c_uint32,)),
    "nic_record_departures": (None, (c_void_p, c_uint64)),
    "nic_departure_count": (c_uint64, ()),
    "wire_loop": (None, ()),
    "wire_sink": (None, ()),
    "wire_slow_sink": (None, (c_uint32,)),
    "wire_cable": (None, (c_void_p,)),
    "wire_delay": (c_int, (c_uint64,)),
    "wire_source": (c_int, (c_char_p, c_uint32)),
    "wire_pcap": (c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_uint64, c_int)),
    "wire_tap": (c_int, (c_int,)),
    "wire_close": (None, ()),
    "wire_trouble": (c_int, ()),
    "wire_sequence": (c_uint64, ()),
}


def load_ring(path: Path) -> Callable[[int, int, int], None]:
    """`nic_ring(nic, offset, value)`. It never waits, so it keeps the GIL: no thread closes the NIC meanwhile.

    Engine.ring() freezes the engine around it on a Python that can run without the GIL.
    """
    function = PyDLL(str(path)).nic_ring
    function.restype, function.argtypes = None, (c_void_p, c_uint32, c_uint32)
    return function


def load_sharing(path: Path) -> Callable[[int], int]:
    """`nic_share_doorbells(nic)`. It keeps the GIL: a tail that a thread stored meanwhile would be lost."""
    function = PyDLL(str(path)).nic_share_doorbells
    function.restype, function.argtypes = c_int, (c_void_p,)
    return function


def load_library(path: Path) -> CDLL:
    try:
        library = CDLL(str(path))
    except OSError as error:
        raise DeviceError(f"the emulator's C engine could not be loaded ({error}). Run: pip install -e .") from None
    with_nic = {name: (result, (c_void_p, *arguments)) for name, (result, arguments) in NIC_CALLS.items()}
    for name, (result, arguments) in (PROCESS_CALLS | with_nic).items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Frozen:
    """Inside `with` nothing moves in any emulated NIC of this process. Keep it short and do not nest it."""

    def __init__(self, library: CDLL) -> None:
        self._freeze, self._resume = library.engine_freeze, library.engine_resume

    def __enter__(self) -> None:
        try:
            self._freeze()
        except BaseException:  # Ctrl-C, most likely while waiting: __exit__ will not be called
            self._resume()
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._resume()


class Engine:
    """One NIC in the C engine. `call` reaches its functions; `frozen` stops the clock around several calls."""

    def __init__(self) -> None:
        self._library = load_library(LIBRARY)
        self._ring = load_ring(LIBRARY)
        self._share = load_sharing(LIBRARY)
        self._frozen = Frozen(self._library)
        self._kept: weakref.finalize[..., Engine] | None = None  # frees registers that destroy() has kept
        self.pointer: int = self._library.nic_create() or 0
        if not self.pointer:
            raise DeviceError("no memory for an emulated NIC")
        self.registers = (c_uint32 * (REGISTER_BYTES // 4)).from_address(self.call("nic_registers"))
        self.register_address = ctypes.addressof(self.registers)

    def call(self, name: str, *arguments: object) -> int:
        """Return `name(nic, *arguments)`, 0 for a void function. Raises DeviceError after destroy()."""
        if not self.pointer:
            raise DeviceError("the emulated NIC is closed")
        return int(getattr(self._library, name)(self.pointer, *arguments) or 0)

    def ring(self, offset: int, tail: int) -> None:
        """Write the tail register at `offset`. The engine need not be frozen (doorbells.c)."""
        if not self.pointer:
            raise DeviceError("the emulated NIC is closed")
        if FREE_THREADED:
            with self._frozen:  # the GIL does not keep another thread from closing the NIC
                self._ring(self.pointer, offset, tail)
        else:
            self._ring(self.pointer, offset, tail)

    def share_doorbells(self) -> int:
        """A file with the tail registers' pages, or -1 (doorbells.c). The engine is frozen."""
        if not self.pointer:
            raise DeviceError("the emulated NIC is closed")
        return int(self._share(self.pointer))

    def frozen(self) -> Frozen:
        return self._frozen

    def guard(self, on: bool) -> None:
        """Survive access to memory that its owner has taken away (guard.c). Applies to the whole process."""
        self._library.engine_guard(on)

    def help_function(self) -> int:
        """Address of engine_help(): one step of all NICs of this process, by a thread that calls it often."""
        return ctypes.cast(self._library.engine_help, c_void_p).value or 0

    def help_ends(self) -> None:
        """The thread that calls engine_help() is about to sleep: the engine's own thread goes on."""
        self._library.engine_help_ends()

    def findings(self) -> list[Finding]:
        """Copies of the first FINDINGS_KEPT findings, oldest first."""
        kept = min(self.call("nic_finding_count"), FINDINGS_KEPT)
        table = self._library.nic_findings(self.pointer)
        return [Finding.from_buffer_copy(table[i]) for i in range(kept)]

    def destroy(self, *, keep_registers: bool = False) -> None:
        """Free the NIC; call nic_stop first. keep_registers: until release_registers(), stores to tails do no harm."""
        pointer, self.pointer = self.pointer, 0
        if keep_registers:
            self._library.nic_keep_registers(pointer)
            if not sys.is_finalizing():  # else the process frees them
                self._kept = weakref.finalize(self, self._library.engine_free_registers, self.register_address)
                self._kept.atexit = False
        self.registers = (c_uint32 * 0)()
        self._library.nic_destroy(pointer)

    def release_registers(self) -> None:
        """No tails are stored any more. Does nothing when destroy() has freed them."""
        if self._kept is not None:
            self._kept()


class FunctionEngine:
    """The engine for one VF: calls about memory, eventfds and bus master act on this function. Freeze it first."""

    def __init__(self, engine: Engine, vf: int) -> None:
        self._engine, self._function = engine, vf + 1

    def call(self, name: str, *arguments: object) -> int:
        """As Engine.call(). The engine is frozen."""
        self._engine.call("nic_use_function", self._function)
        try:
            return self._engine.call(name, *arguments)
        finally:
            self._engine.call("nic_use_function", 0)

    def frozen(self) -> Frozen:
        return self._engine.frozen()
