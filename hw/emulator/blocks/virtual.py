"""What virtual functions share with the PF (82599 4.6.10, 8.2.3.27, 8.3.5): mailboxes, resets, interrupts, counters.

Each register of a VF is a register of the PF, too (PVTEICR[n] is VTEICR of VF n), so both sides come here. Which frames
a pool gets is in engine/pools.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from ... import fields as f
from ...pf.pools import FIRST_EITR
from ...registers import QUEUES
from ..faults import Fault
from .block import Block
from .interrupts import COUNTER_NS

VFS = 64
REQUESTS = 16  # PFMBICR[i] has the requests of 16 VFs in its low half, and their acknowledgements in its high half
VECTORS = 3  # of a VF
QUEUE_VECTORS = 2  # of them, those of queues
VECTOR_BITS = 0x7
WORDS = 16  # of a mailbox


class Virtual(Block):
    vfs = 0  # enabled in the SR-IOV capability

    def reset(self) -> None:
        """A reset of the PF: the mailboxes of all VFs show RSTI, which is the registers' reset value."""
        self.enable(self.vfs)

    def enable(self, count: int) -> None:
        """VFs 0 to count - 1 exist."""
        for vf in range(count, self.vfs):
            self.reset_function(vf, announce=False)
        self.vfs = count
        self.raw.STATUS.update(NUM_VFS=count, IOV=int(count > 0))
        self.engine.call("nic_set_vf_count", count)

    def queues_of_a_pool(self) -> int:
        """0 while VT mode is off (8.2.3.4.12)."""
        mode = self.raw.GCR_EXT.read().VT_MODE
        return 16 >> mode if mode and self.raw.PFVTCTL.read().VT_ENA else 0

    # ---- reset of a VF ----

    def reset_function(self, vf: int, *, announce: bool) -> None:
        """VFCTRL.RST or, with `announce`, a function-level reset: queues off, interrupts cleared, pool closed.

        TDWBAL, TDWBAH and the statistics stay. ASSUMPTION (datasheet not at hand): the pool is closed, as X550 8.2.2.22
        has it, and heads and tails are 0, because VF drivers expect a fresh queue to begin there.
        """
        each = self.queues_of_a_pool()
        for queue in range(vf * each, min((vf + 1) * each, QUEUES)):
            self.raw.TXDCTL[queue].write(0)
            self.engine.call("nic_tx_queue_changed", queue)
            self.raw.RXDCTL[queue].write(0)
            self.engine.call("nic_rx_queue_changed", queue)
            for pointer in (self.raw.TDH, self.raw.TDT, self.raw.RDH, self.raw.RDT):
                pointer[queue].write(0)
        for pair in range(vf * each // 2, min((vf + 1) * each // 2, VFS)):
            self.raw.PVTIVAR[pair].write(0)
        for registers in (self.raw.PVTEICR, self.raw.PVTEIMS, self.raw.PVTEIAC, self.raw.PVTEIAM):
            registers[vf].write(0)
        self.raw.PVTIVAR_MISC[vf].write(0)
        for vector in range(QUEUE_VECTORS):
            self.raw.PVTRSCINT[QUEUE_VECTORS * vf + vector].write(0)
        self.nic.forget_queues(range(vf * each, min((vf + 1) * each, QUEUES)))
        self.engine.call("nic_reset_vf", vf)
        for enables in (self.raw.PFVFRE, self.raw.PFVFTE):
            enables[vf // 32].write(enables[vf // 32].read() & ~(1 << vf % 32))
        self.raw.PVFMAILBOX[vf].write(0, RSTI=self.raw.PVFMAILBOX[vf].read().RSTI)
        self.raw.PFMAILBOX[vf].write(0)
        if announce:
            self.raw.PFVFLRE[vf // 32].write(self.raw.PFVFLRE[vf // 32].read() | 1 << vf % 32)
            self._interrupt_pf()

    def write_PVFCTRL(self, index: int, value: int) -> None:
        if f.PVFCTRL(value).RST:
            self.reset_function(index, announce=False)

    def read_PFVFLREC(self, index: int) -> int:
        return self.raw.PFVFLRE[index].read()

    def write_PFVFLREC(self, index: int, value: int) -> None:
        self.raw.PFVFLRE[index].write(self.raw.PFVFLRE[index].read() & ~value)

    def write_CTRL_EXT(self, index: int, value: int) -> None:
        """PFRSTD ends the reset of the PF: the VFs may go on."""
        self.raw.CTRL_EXT.write(value & self.raw.CTRL_EXT.row.mask)
        if f.CTRL_EXT(value).PFRSTD:
            seen = int(Fault.PF_RSTD not in self.nic.injected)
            for mailbox in self.raw.PVFMAILBOX:
                mailbox.update(RSTI=0, RSTD=seen)

    # ---- the mailbox (8.2.3.27, 8.3.5.1.5): one buffer for both directions ----

    def write_PFMAILBOX(self, index: int, value: int) -> None:
        asked, vf = f.PFMAILBOX(value), self.raw.PVFMAILBOX[index]
        if asked.RVFU:
            vf.update(VFU=0)
            self._clear_requests(index)
        vf.update(PFU=asked.PFU & (vf.read().VFU ^ 1))
        if asked.STS:
            vf.update(PFSTS=1)
        if asked.ACK:
            vf.update(PFACK=1)
        self._mirror(index)
        if asked.STS or asked.ACK:
            self._interrupt_vf(index)

    def write_PVFMAILBOX(self, index: int, value: int) -> None:
        asked, vf = f.PVFMAILBOX(value), self.raw.PVFMAILBOX[index]
        vf.update(VFU=asked.VFU & (vf.read().PFU ^ 1))
        self._mirror(index)
        request = 1 << index % REQUESTS
        causes = asked.REQ * request | asked.ACK * request << REQUESTS
        if causes:
            register = self.raw.PFMBICR[index // REQUESTS]
            register.write(register.read() | causes)
            if self.raw.PFMBIMR[index // REQUESTS].read() & causes:
                self._interrupt_pf()

    def read_PVFMAILBOX(self, index: int) -> int:
        shown = self.raw.PVFMAILBOX[index].read()
        self.raw.PVFMAILBOX[index].update(PFSTS=0, PFACK=0, RSTD=0)
        return shown

    def _mirror(self, index: int) -> None:
        shown = self.raw.PVFMAILBOX[index].read()
        self.raw.PFMAILBOX[index].write(0, VFU=shown.VFU, PFU=shown.PFU)

    def _clear_requests(self, index: int) -> None:
        register, request = self.raw.PFMBICR[index // REQUESTS], 1 << index % REQUESTS
        register.write(register.read() & ~(request | request << REQUESTS))

    # ---- interrupts ----

    def _interrupt_pf(self) -> None:
        self.raw.EICR.update(MAILBOX=1)
        self.engine.call("nic_send_messages")

    def _interrupt_vf(self, vf: int) -> None:
        misc = self.raw.PVTIVAR_MISC[vf].read()
        if misc.VALID and misc.VECTOR < VECTORS:
            self.write_PVTEICS(vf, 1 << misc.VECTOR)

    def read_PVTEICR(self, index: int) -> int:
        causes = self.raw.PVTEICR[index].read()
        self.write_PVTEICR(index, causes)
        return causes

    def write_PVTEICR(self, index: int, value: int) -> None:
        self.raw.PVTEICR[index].write(self.raw.PVTEICR[index].read() & ~value)
        self.engine.call("nic_send_vf_messages")

    def write_PVTEICS(self, index: int, value: int) -> None:
        self.raw.PVTEICR[index].write(self.raw.PVTEICR[index].read() | value & VECTOR_BITS)
        self.engine.call("nic_send_vf_messages")

    def write_PVTEIMS(self, index: int, value: int) -> None:
        self.raw.PVTEIMS[index].write(self.raw.PVTEIMS[index].read() | value & VECTOR_BITS)
        self.engine.call("nic_send_vf_messages")

    def write_PVTEIMC(self, index: int, value: int) -> None:
        self.raw.PVTEIMS[index].write(self.raw.PVTEIMS[index].read() & ~value)
        self.engine.call("nic_send_vf_messages")

    def interval_of(self, vf: int, vector: int, index: int) -> int:
        """VTEITR, as Interrupts.read_EITR()."""
        left = self.engine.call("nic_vf_interval_left", vf, vector)
        return self.raw.EITR[index].read() | f.EITR.compose("EITR", 0, {"ITR_COUNTER": left // COUNTER_NS})

    def set_interval(self, vf: int, vector: int, index: int, value: int) -> None:
        asked = f.EITR(value)
        self.raw.EITR[index].write(value & self.raw.EITR.row.mask, CNT_WDIS=0, ITR_COUNTER=0)
        if not asked.CNT_WDIS:
            self.engine.call("nic_set_vf_interval_left", vf, vector, asked.ITR_COUNTER * COUNTER_NS)
            self.engine.call("nic_send_vf_messages")

    # ---- pools ----

    def write_MPSAR(self, index: int, value: int) -> None:
        self.raw.MPSAR[index].write(value)
        self.engine.call("nic_addresses_changed")

    def write_PFQDE(self, index: int, value: int) -> None:
        """The register reaches one queue at a time (8.2.3.27.9)."""
        asked = f.PFQDE(value & self.raw.PFQDE.row.mask)
        if asked.WE:
            self.engine.call("nic_set_drop_enable", asked.QUEUE_IDX, bool(asked.QDE))
            self.engine.call("nic_rx_buffers_changed", asked.QUEUE_IDX)
        self.raw.PFQDE.write(asked, WE=0, RE=0, QDE=self.engine.call("nic_drop_enable", asked.QUEUE_IDX))

    def _counter(self, name: str, index: int) -> int:
        self.engine.call("nic_flush_pool_counters", index)
        return int(getattr(self.raw, name)[index].read())

    def read_PVFGPRC(self, index: int) -> int:
        return self._counter("PVFGPRC", index)

    def read_PVFGORC_LSB(self, index: int) -> int:
        return self._counter("PVFGORC_LSB", index)

    def read_PVFGORC_MSB(self, index: int) -> int:
        return self._counter("PVFGORC_MSB", index)

    def read_PVFMPRC(self, index: int) -> int:
        return self._counter("PVFMPRC", index)

    def read_PVFGPTC(self, index: int) -> int:
        return self._counter("PVFGPTC", index)

    def read_PVFGOTC_LSB(self, index: int) -> int:
        return self._counter("PVFGOTC_LSB", index)

    def read_PVFGOTC_MSB(self, index: int) -> int:
        return self._counter("PVFGOTC_MSB", index)


# ---- BAR0 of a VF: offset -> register of the PF, and its index ----

SHARED = {0x008: "STATUS", 0x010: "LINKS", 0x048: "FRTIMER", 0x3190: "RXMEMWRAP"}
OWN = {
    0x000: "PVFCTRL",
    0x100: "PVTEICR",
    0x104: "PVTEICS",
    0x108: "PVTEIMS",
    0x10C: "PVTEIMC",
    0x110: "PVTEIAC",
    0x114: "PVTEIAM",
    0x140: "PVTIVAR_MISC",
    0x2FC: "PVFMAILBOX",
    0x300: "PSRTYPE",
    0x101C: "PVFGPRC",
    0x1020: "PVFGORC_LSB",
    0x1024: "PVFGORC_MSB",
    0x1034: "PVFMPRC",
    0x201C: "PVFGPTC",
    0x2020: "PVFGOTC_LSB",
    0x2024: "PVFGOTC_MSB",
}
# offset within a queue's registers, 0x40 bytes apart
RECEIVE = {
    0x00: "RDBAL",
    0x04: "RDBAH",
    0x08: "RDLEN",
    0x0C: "DCA_RXCTRL",
    0x10: "RDH",
    0x14: "SRRCTL",
    0x18: "RDT",
    0x28: "RXDCTL",
    0x2C: "RSCCTL",
}
TRANSMIT = {
    0x00: "TDBAL",
    0x04: "TDBAH",
    0x08: "TDLEN",
    0x0C: "DCA_TXCTRL",
    0x10: "TDH",
    0x18: "TDT",
    0x28: "TXDCTL",
    0x38: "TDWBAL",
    0x3C: "TDWBAH",
}
READ_ONLY = {*SHARED.values(), *(name for offset, name in OWN.items() if offset > 0x1000)}


def registers_of(vf: int, queues: int) -> Iterator[tuple[int, str, int]]:
    """(offset, name, index): all registers in BAR0 of a VF with so many queues, as registers of the PF.

    ASSUMPTION (datasheet not at hand): PVTIVAR is indexed by the PF's number of a pair of queues, PVTRSCINT by that of
    a VF's vector. VFPBACL (0x148) is not here and reads 0: no vector of this NIC is masked in a table of its own, so
    no message is pending.
    """
    yield from ((offset, name, 0) for offset, name in SHARED.items())
    yield from ((offset, name, vf) for offset, name in OWN.items())
    yield from ((0x200 + 4 * i, "PFMBMEM", WORDS * vf + i) for i in range(WORDS))
    yield from ((0x180 + 4 * i, "PVTRSCINT", QUEUE_VECTORS * vf + i) for i in range(QUEUE_VECTORS))
    yield from ((0x120 + 4 * i, "PVTIVAR", vf * queues // 2 + i) for i in range(queues // 2))
    yield from ((0x820 + 4 * i, "EITR", FIRST_EITR - 2 * vf + i) for i in range(2))
    for queue in range(queues):
        for start, names in ((0x1000, RECEIVE), (0x2000, TRANSMIT)):
            for low, name in names.items():
                yield start + 0x40 * queue + low, name, vf * queues + queue
