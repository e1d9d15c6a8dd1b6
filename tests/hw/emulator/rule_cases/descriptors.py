"""Cases of hw/emulator/rules/descriptors.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand

from .steps import bring_up, data_descriptor, send_descriptor


def transmit_descriptor_type(nic: ByHand, wrong: bool) -> None:
    send_descriptor(nic, data_descriptor(60) ^ 2 * wrong << 20)  # DTYP 1


def chain_length(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.post(*[b"x" * 10] * (39 if wrong else 38))
    nic.kick()
    nic.nic.step()


def frame_length(nic: ByHand, wrong: bool) -> None:
    send_descriptor(nic, data_descriptor(0 if wrong else 60))


def paylen(nic: ByHand, wrong: bool) -> None:
    send_descriptor(nic, data_descriptor(60, paylen=59 if wrong else 60))


def ifcs_with_padding(nic: ByHand, wrong: bool) -> None:
    send_descriptor(nic, data_descriptor(30, command=0x29 if wrong else 0x2B))


def context_before_use(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    asks = nic.tx[0].buffer(1), data_descriptor(60) | 1 << 40  # IXSM
    context = 14 << 9 | 20, 2 << 20 | 0x20 << 24 | 1 << 10  # MACLEN, IPLEN; IPv4 (7.2.3.2.3)
    descriptors = [asks] if wrong else [context, asks]
    for index, (q0, q1) in enumerate(descriptors):
        nic.tx[0].write(index, q0, q1)
    nic.regs.TDT[0].write(len(descriptors))
    while nic.nic.step():
        pass


def buffer_length(nic: ByHand, wrong: bool) -> None:
    send_descriptor(nic, data_descriptor(15872 + wrong))


def shortest_frame(nic: ByHand, wrong: bool) -> None:
    send_descriptor(nic, data_descriptor(16 if wrong else 17))


def send_legacy(nic: ByHand, *, command: int = 0x0B, offset: int = 0, start: int = 0) -> None:
    """Send 60 bytes with a legacy descriptor; the command is RS, IFCS, EOP."""
    bring_up(nic)
    nic.tx[0].write(0, nic.tx[0].buffer(0), 60 | offset << 16 | command << 24 | start << 40)
    nic.regs.TDT[0].write(1)
    nic.nic.step()


def ifcs_with_offloads(nic: ByHand, wrong: bool) -> None:
    send_legacy(nic, command=0x49 if wrong else 0x4B)  # VLE


def no_legacy_descriptors(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.MTQC.write(VT_ENA=int(wrong), NUM_TC_OR_Q=int(wrong))
    nic.regs.RTTDCS.update(ARBDIS=0)
    nic.regs.PFVTCTL.write(VT_ENA=int(wrong))
    nic.regs.GCR_EXT.update(VT_MODE=3 * wrong)
    nic.regs.GPIE.write(VT_MODE=3 * wrong)
    nic.regs.MRQC.write(MRQE=8 * wrong)
    nic.regs.PFVFTE[0].write(1)
    send_legacy(nic)


def rs_with_eop(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.tx[0].write(0, nic.tx[0].buffer(0), 60 | (0x0A if wrong else 0x02) << 24)
    nic.tx[0].write(1, nic.tx[0].buffer(1), 60 | 0x0B << 24)
    nic.regs.TDT[0].write(2)
    nic.nic.step()


def legacy_checksum_place(nic: ByHand, wrong: bool) -> None:
    send_legacy(nic, command=0x0F, offset=59 if wrong else 58, start=34)
