"""Cases of hw/emulator/rules/dca.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand, Ring


def dca_enabled_in_dca_ctrl(nic: ByHand, wrong: bool) -> None:
    nic.regs.DCA_CTRL.write(DCA_DIS=int(wrong))
    nic.regs.DCA_TXCTRL[2].update(TXDCA_DESC=1)


def receive_writeback_ordering(nic: ByHand, wrong: bool) -> None:
    nic.read_ready_bits()
    nic.place_receive_ring(0, Ring(nic.nic, 64))
    nic.regs.DCA_RXCTRL[0].update(RXDESCWBRO=int(wrong))
    nic.regs.RXDCTL[0].write(ENABLE=1)
