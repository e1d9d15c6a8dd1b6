"""Queue control (82599 4.6.7, 4.6.8, 8.2.3.8, 8.2.3.9): what enables a queue, and what its pointers may be told when."""

from __future__ import annotations

from .. import fields as f
from .block import Block
from .findings import Kind


class ReceiveQueues(Block):
    def write_RXDCTL(self, index: int, value: int) -> None:
        # SWFLSH clears itself: there is nothing left to flush once the queue is off.
        self.raw.RXDCTL[index].write(value & self.raw.RXDCTL.row.mask, SWFLSH=0)
        self.engine.call("nic_rx_queue_changed", index)

    def write_SRRCTL(self, index: int, value: int) -> None:
        self.raw.SRRCTL[index].write(value & self.raw.SRRCTL.row.mask)
        self.engine.call("nic_rx_queue_changed", index)

    def read_RDH(self, index: int) -> int:
        return self.engine.call("nic_rx_head", index)

    def write_RDH(self, index: int, value: int) -> None:
        self.raw.RDH[index].write(value & 0xFFFF)
        self.engine.call("nic_rx_head_changed", index)

    def write_RDT(self, index: int, value: int) -> None:
        if not self.raw.RXDCTL[index].read().ENABLE and value:
            self.nic.find(Kind.RX_TAIL_BEFORE_ENABLE, index, value)
        elif value and value >= self.raw.RDLEN[index].read() // 16:
            self.nic.find(Kind.RX_TAIL, index, value, self.raw.RDLEN[index].read() // 16)
        self.raw.RDT[index].write(value & 0xFFFF)


class TransmitQueues(Block):
    def write_TXDCTL(self, index: int, value: int) -> None:
        asked = f.TXDCTL(value & self.raw.TXDCTL.row.mask)
        # The queue takes ENABLE only once DMATXCTL.TE is set (4.6.8).
        enable = asked.ENABLE & self.raw.DMATXCTL.read().TE
        self.raw.TXDCTL[index].write(asked, SWFLSH=0, ENABLE=enable)
        self.engine.call("nic_tx_queue_changed", index)

    def read_TDH(self, index: int) -> int:
        return self.engine.call("nic_tx_head", index)

    def write_TDH(self, index: int, value: int) -> None:
        self.raw.TDH[index].write(value & 0xFFFF)
        self.engine.call("nic_tx_head_changed", index)

    def write_TDT(self, index: int, value: int) -> None:
        if not self.raw.TXDCTL[index].read().ENABLE and value:
            self.nic.find(Kind.TX_TAIL_BEFORE_ENABLE, index, value)
        self.raw.TDT[index].write(value & 0xFFFF)

    def write_TDWBAL(self, index: int, value: int) -> None:
        if f.TDWBAL(value).HEAD_WB_EN and value & 0xE:
            self.nic.find(Kind.HEAD_WRITEBACK_ALIGNMENT, index, value)
        self.raw.TDWBAL[index].write(value)
