"""Queue control (82599 4.6.7, 4.6.8, 8.2.3.8, 8.2.3.9): ENABLE, buffer sizes, head pointers."""

from __future__ import annotations

from ... import fields as f
from ..faults import Fault
from .block import Block


class ReceiveQueues(Block):
    def write_RXDCTL(self, index: int, value: int) -> None:
        # SWFLSH clears itself: a queue that is off has nothing left to flush.
        asked = f.RXDCTL(value & self.raw.RXDCTL.row.mask)
        self.raw.RXDCTL[index].write(
            asked, SWFLSH=0, ENABLE=asked.ENABLE & (Fault.QUEUE_ENABLE not in self.nic.injected)
        )
        self.engine.call("nic_rx_queue_changed", index)

    def write_SRRCTL(self, index: int, value: int) -> None:
        self.raw.SRRCTL[index].write(value & self.raw.SRRCTL.row.mask)
        self.engine.call("nic_rx_buffers_changed", index)

    def read_RDH(self, index: int) -> int:
        return self.engine.call("nic_rx_head", index)

    def write_RDH(self, index: int, value: int) -> None:
        self.raw.RDH[index].write(value & 0xFFFF)
        self.engine.call("nic_rx_head_changed", index)


class TransmitQueues(Block):
    def write_TXDCTL(self, index: int, value: int) -> None:
        asked = f.TXDCTL(value & self.raw.TXDCTL.row.mask)
        # ENABLE does not need DMATXCTL.TE: iPXE enables the queue first, and silicon sends. The engine waits for TE.
        enable = asked.ENABLE & (Fault.QUEUE_ENABLE not in self.nic.injected)
        self.raw.TXDCTL[index].write(asked, SWFLSH=0, ENABLE=enable)
        self.engine.call("nic_tx_queue_changed", index)

    def read_RTTBCNRC(self, index: int) -> int:
        return self.engine.call("nic_rate", self.raw.RTTDQSEL.read().TXDQ_IDX)

    def write_RTTBCNRC(self, index: int, value: int) -> None:
        """The rate of the queue that RTTDQSEL chooses."""
        self.engine.call("nic_set_rate", self.raw.RTTDQSEL.read().TXDQ_IDX, value & self.raw.RTTBCNRC.row.mask)

    def write_TDWBAL(self, index: int, value: int) -> None:
        self.raw.TDWBAL[index].write(value & self.raw.TDWBAL.row.mask)
        self.engine.call("nic_tx_head_writeback_changed", index)

    def write_TDWBAH(self, index: int, value: int) -> None:
        self.raw.TDWBAH[index].write(value)
        self.engine.call("nic_tx_head_writeback_changed", index)

    def read_TDH(self, index: int) -> int:
        return self.engine.call("nic_tx_head", index)

    def write_TDH(self, index: int, value: int) -> None:
        self.raw.TDH[index].write(value & 0xFFFF)
        self.engine.call("nic_tx_head_changed", index)
