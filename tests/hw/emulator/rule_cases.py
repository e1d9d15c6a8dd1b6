"""A driver's steps that keep a datasheet rule, or break it when they are `wrong`: one case a rule of hw/emulator/rules, by its name."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType

from tests.support.by_hand import ByHand, Ring, frame

Case = Callable[[ByHand, bool], None]


def cases(module: ModuleType) -> dict[str, Case]:
    """Each is called with a NIC that has bus master and nothing else."""
    return {
        name: case
        for name, case in vars(module).items()
        if callable(case)
        and getattr(case, "__module__", "") == module.__name__
        and not name.startswith("_")
        and name not in ("cases", "up", "send", "data", "enable_with", "direct")
    }


# ---- steps ----


def up(nic: ByHand, *, rx: int = 1, tx: int = 1) -> None:
    """A NIC that runs, as the datasheet has it."""
    nic.look_around()
    nic.set_up_reception()
    nic.rx = [nic.receive_queue(queue) for queue in range(rx)]
    nic.start_reception()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.tx = [nic.transmit_queue(queue) for queue in range(tx)]


def _off(nic: ByHand) -> None:
    for control in (nic.regs.RXDCTL[0], nic.regs.TXDCTL[0]):
        control.update(ENABLE=0)
        control.read()


def _disable_master(nic: ByHand) -> None:
    nic.regs.CTRL.update(GIO_DIS=1)
    nic.regs.STATUS.read()


def _reset(nic: ByHand, wait_s: float = 0.011) -> None:
    nic.regs.CTRL.write(RST=1)
    time.sleep(wait_s)


def _after_reset(nic: ByHand, access: Callable[[], object], wait_s: float, wrong: bool) -> None:
    """`wait_s` after a reset, or too soon; on a busy machine that may come late, so until it did not."""
    for _ in range(100 if wrong else 1):
        nic.nic.reset()
        _reset(nic, 0 if wrong else wait_s)
        access()
        if nic.nic.violations:
            return


def send(nic: ByHand, q1: int) -> None:
    up(nic)
    nic.tx[0].write(0, nic.tx[0].buffer(0), q1)
    nic.regs.TDT[0].write(1)
    nic.nic.step()


def data(length: int, *, command: int = 0x2B, paylen: int | None = None) -> int:
    """Q1 of an advanced data descriptor (7.2.3.2.4); the command is DEXT, RS, IFCS, EOP."""
    return length | 3 << 20 | command << 24 | (length if paylen is None else paylen) << 46


def enable_with(nic: ByHand, **srrctl: int) -> None:
    nic.look_around()
    nic.place_receive_ring(0, Ring(nic.nic, 64))
    nic.regs.SRRCTL[0].update(**srrctl)
    nic.regs.RXDCTL[0].write(ENABLE=1)


def direct(nic: ByHand, *, hash_written: bool = True) -> None:
    """Flow director gets 64 KB, and the filter that the next command is about."""
    nic.regs.FDIRHKEY.write(1)
    nic.regs.FDIRSKEY.write(2)
    nic.regs.FDIRCTRL.write(PBALLOC=1)
    nic.regs.FDIRCTRL.read()
    if hash_written:
        nic.regs.FDIRHASH.write(HASH=3, SIGNATURE_SW_INDEX=7)


# ---- reset.py ----


def queues_off_before_master_disable(nic: ByHand, wrong: bool) -> None:
    up(nic)
    if not wrong:
        _off(nic)
    _disable_master(nic)


def master_disable_before_reset(nic: ByHand, wrong: bool) -> None:
    up(nic)
    _off(nic)
    if not wrong:
        _disable_master(nic)
    nic.regs.CTRL.update(RST=1)


def wait_before_reading_ctrl(nic: ByHand, wrong: bool) -> None:
    _after_reset(nic, nic.regs.CTRL.read, 0.0011, wrong)


def wait_before_programming(nic: ByHand, wrong: bool) -> None:
    _after_reset(nic, lambda: nic.regs.EIMC.write(0x7FFF_FFFF), 0.011, wrong)


def interrupts_masked_after_reset(nic: ByHand, wrong: bool) -> None:
    _reset(nic)
    if not wrong:
        nic.regs.EIMC.write(0x7FFF_FFFF)
    nic.regs.EIMS.write(LSC=1)


def buffers_cleared_in_loopback(nic: ByHand, wrong: bool) -> None:
    nic.regs.HLREG0.update(LPBK=int(not wrong))
    nic.regs.GCR_EXT.update(BUFFERS_CLEAR_FUNC=1)


# ---- initialization.py ----


def _look_around(nic: ByHand, *but: str) -> None:
    for register in (nic.regs.EEC, nic.regs.FWSM, nic.regs.RDRXCTL):
        if register.name not in but:
            register.read()
    nic.receive_queue(0)


def eeprom_awaited(nic: ByHand, wrong: bool) -> None:
    _look_around(nic, "EEC" if wrong else "")


def firmware_looked_at(nic: ByHand, wrong: bool) -> None:
    _look_around(nic, "FWSM" if wrong else "")


def dma_init_awaited(nic: ByHand, wrong: bool) -> None:
    _look_around(nic, "RDRXCTL" if wrong else "")


def unknown_register(nic: ByHand, wrong: bool) -> None:
    nic.nic.write32(0x1FFFC if wrong else 0x5200, 5)


# ---- shared.py ----


def _take(nic: ByHand, **semaphores: int) -> None:
    nic.regs.SWSM.read()
    nic.regs.SWSM.update(SWESMBI=1)
    nic.regs.SW_FW_SYNC.update(**semaphores)
    nic.regs.SWSM.write(0)


def semaphore_for_sw_fw_sync(nic: ByHand, wrong: bool) -> None:
    if wrong:
        nic.regs.SW_FW_SYNC.update(SW_EEP_SM=1)
    else:
        _take(nic, SW_EEP_SM=1)


def semaphore_for_phy(nic: ByHand, wrong: bool) -> None:
    _take(nic, SW_PHY_SM0=int(not wrong))
    nic.regs.MSCA.write(OPCODE=3, MDICMD=1)


def firmware_comes_first(nic: ByHand, wrong: bool) -> None:
    nic.nic.firmware_takes(FW_PHY_SM0=1, FW_EEP_SM=int(wrong))
    _take(nic, SW_EEP_SM=1)


def mdio_access_awaited(nic: ByHand, wrong: bool) -> None:
    _take(nic, SW_PHY_SM0=1)
    for register in range(2):
        nic.regs.MSCA.write(OPCODE=3, MDIADD=register, MDICMD=1)
        if not wrong:
            nic.nic.step(ns=10_000)
            nic.regs.MSCA.wait(MDICMD=0, timeout=0.1)


def semaphore_for_eeprom(nic: ByHand, wrong: bool) -> None:
    _take(nic, SW_EEP_SM=int(not wrong))
    nic.regs.EEC.update(EE_REQ=1)


def eerd_done_awaited(nic: ByHand, wrong: bool) -> None:
    for address in range(2):
        nic.regs.EERD.write(START=1, ADDR=address)
        if not wrong:
            nic.regs.EERD.read()


# ---- rings.py ----


def ring_alignment(nic: ByHand, wrong: bool) -> None:
    nic.regs.RDBAL[0].write(0x1040 if wrong else 0x1080)


def ring_length(nic: ByHand, wrong: bool) -> None:
    nic.regs.TDLEN[5].write(8192 * 16 + 128 * wrong)


def ring_before_enable(nic: ByHand, wrong: bool) -> None:
    nic.look_around()
    if not wrong:
        nic.place_receive_ring(0, Ring(nic.nic, 64))
    nic.regs.SRRCTL[0].write(BSIZEPACKET=2, DESCTYPE=1)
    nic.regs.RXDCTL[0].write(ENABLE=1)


def ring_stays(nic: ByHand, wrong: bool) -> None:
    up(nic)
    if not wrong:
        _off(nic)
    nic.regs.TDLEN[0].write(32 * 16)


def tail_after_enable(nic: ByHand, wrong: bool) -> None:
    nic.look_around()
    nic.place_receive_ring(0, Ring(nic.nic, 1024))
    nic.regs.RXDCTL[0].write(ENABLE=1)
    if not wrong:
        nic.regs.RXDCTL[0].read()
    nic.regs.RDT[0].write(1023)


def tail_within_ring(nic: ByHand, wrong: bool) -> None:
    up(nic, rx=0)
    nic.regs.TDT[0].write(64 if wrong else 0)
    nic.nic.step()


def tail_moves_forward(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.send(*[frame()] * 10)
    for index in range(10):
        nic.rx[0].write(index, nic.rx[0].buffer(index), 0)
    nic.regs.RDT[0].write(11 if wrong else 8)  # ten were used: 0 to 8 can be given again, not those from 10 on


def first_tail_gives_descriptors(nic: ByHand, wrong: bool) -> None:
    nic.look_around()
    nic.place_receive_ring(0, Ring(nic.nic, 64))
    nic.regs.RXDCTL[0].write(ENABLE=1)
    nic.regs.RXDCTL[0].read()
    nic.regs.RDT[0].write(0 if wrong else 63)


def head_before_enable(nic: ByHand, wrong: bool) -> None:
    nic.regs.RDH[0].write(0)
    up(nic)
    if wrong:
        nic.regs.RDH[0].write(0)


def receive_descriptor_cleared(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.send(frame(), frame())
    for index in () if wrong else range(2):
        nic.rx[0].write(index, nic.rx[0].buffer(index), 0)
    nic.regs.RDT[0].write(1)


def transmit_descriptor_cleared(nic: ByHand, wrong: bool) -> None:
    send(nic, data(60) | wrong << 32)


def transmit_tail_behind_eop(nic: ByHand, wrong: bool) -> None:
    send(nic, data(60, command=0x2A if wrong else 0x2B))


def disable_awaited(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.regs.TXDCTL[0].write(0)
    if not wrong:
        nic.regs.TXDCTL[0].read()
    nic.regs.TDBAL[0].write(0x8000)


def ring_memory_stays(nic: ByHand, wrong: bool) -> None:
    up(nic, tx=0)
    if not wrong:
        nic.regs.RXDCTL[0].write(0)
    nic.rx[0].descriptors.release()


# ---- receive.py ----


def fctrl_while_reception_is_off(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.regs.RXCTRL.write(RXEN=int(wrong))
    nic.regs.FCTRL.write(BAM=1)


def rxcsum_while_reception_is_off(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.regs.RXCTRL.write(RXEN=int(wrong))
    nic.regs.RXCSUM.write(PCSD=1)


def rxen_with_the_path_stopped(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.SECRXCTRL.update(RX_DIS=1)
    if not wrong:
        nic.regs.SECRXSTAT.read()
    nic.regs.RXCTRL.write(RXEN=1)


def crc_strip_agrees(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.HLREG0.update(RXCRCSTRP=int(not wrong))
    nic.start_reception()


def rdrxctl_settings(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.RDRXCTL.update(RSCACKC=int(not wrong))
    nic.start_reception()


def srrctl_values(nic: ByHand, wrong: bool) -> None:
    enable_with(nic, BSIZEPACKET=17 if wrong else 16)


def no_header_split(nic: ByHand, wrong: bool) -> None:
    enable_with(nic, DESCTYPE=5 if wrong else 1)


def descriptor_type_here(nic: ByHand, wrong: bool) -> None:
    enable_with(nic, DESCTYPE=2 if wrong else 0)


def jumbo_frames_enabled(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.MAXFRS.write(MFS=9000)
    nic.regs.HLREG0.update(JUMBOEN=int(not wrong))
    nic.start_reception()


def filter_tables_initialized(nic: ByHand, wrong: bool) -> None:
    _reset(nic)
    nic.set_up_reception()
    if wrong:
        _reset(nic)
        nic.regs.RDRXCTL.update(CRCSTRIP=1, RSCFRSTSIZE=0, RSCACKC=1, FCOE_WRFIX=1)
        nic.regs.FCRTH[0].write(RTH=0x3D00)
    nic.start_reception()


def receive_packet_buffer(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    direct(nic)
    nic.regs.RXPBSIZE[0].write(SIZE=512 if wrong else 448)
    nic.regs.FCRTH[0].write(RTH=0x3500)
    nic.start_reception()


def receive_packet_buffer_divided_first(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.regs.RXCTRL.write(RXEN=int(wrong))
    nic.regs.RXPBSIZE[0].write(SIZE=256)


def loopback_with_link(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    nic.regs.HLREG0.update(LPBK=1)
    nic.regs.AUTOC.update(FLU=int(not wrong))
    nic.start_reception()


def no_snoop_disabled(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.regs.CTRL_EXT.update(NS_DIS=int(not wrong))
    nic.regs.RDT[0].write(63)


def dca_rxctrl_bit_12(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.regs.DCA_RXCTRL[0].update(MUST_BE_ZERO=int(wrong))
    _off(nic)


# ---- transmit.py ----


def mtqc_while_stopped(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=int(not wrong))
    nic.regs.MTQC.write(0)


def te_before_queues(nic: ByHand, wrong: bool) -> None:
    nic.look_around()
    nic.set_up_transmission()
    if not wrong:
        nic.regs.DMATXCTL.update(TE=1)
    nic.transmit_queue(0)


def mtqc_values(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.MTQC.write(RT_ENA=1, NUM_TC_OR_Q=1 if wrong else 2)


def transmit_queue_exists(nic: ByHand, wrong: bool) -> None:
    nic.look_around()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.transmit_queue(64 if wrong else 63)


def dtxmxszrq_at_most(nic: ByHand, wrong: bool) -> None:
    nic.set_up_transmission()
    nic.regs.DTXMXSZRQ.write(MAX_BYTES_NUM_REQ=0x10 if wrong else 0xFFF)
    nic.regs.DMATXCTL.update(TE=1)


def rate_limits_cleared(nic: ByHand, wrong: bool) -> None:
    for queue in range(1 if wrong else 0, 128):
        nic.regs.RTTDQSEL.write(queue)
        nic.regs.RTTDT1C.write(0)
    nic.regs.DTXMXSZRQ.write(MAX_BYTES_NUM_REQ=0xFFF)
    nic.regs.DMATXCTL.update(TE=1)


def transmit_packet_buffer(nic: ByHand, wrong: bool) -> None:
    nic.set_up_transmission()
    nic.regs.MAXFRS.write(MFS=9728)
    nic.regs.TXPBTHRESH[0].write(THRESH=151 if wrong else 150)
    nic.regs.DMATXCTL.update(TE=1)


def transmit_packet_buffer_divided_first(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.regs.DMATXCTL.update(TE=int(wrong))
    nic.regs.TXPBSIZE[0].write(SIZE=80)


def tcp_flags_while_stopped(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.regs.DMATXCTL.update(TE=int(wrong))
    nic.regs.DTXTCPFLGL.write(0)


def arbiter_runs(nic: ByHand, wrong: bool) -> None:
    nic.regs.RTTDCS.update(ARBDIS=1)
    nic.regs.RTTDCS.update(ARBDIS=int(wrong))
    nic.look_around()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.transmit_queue(0)


def hthresh_with_pthresh(nic: ByHand, wrong: bool) -> None:
    nic.regs.TXDCTL[3].write(PTHRESH=36, HTHRESH=int(not wrong))


def thresholds_fit_on_chip(nic: ByHand, wrong: bool) -> None:
    nic.regs.TXDCTL[3].write(PTHRESH=36, HTHRESH=1, WTHRESH=4 + wrong)


def head_writeback_alignment(nic: ByHand, wrong: bool) -> None:
    nic.regs.TDWBAL[0].write(0x1008 if wrong else 0x1010, HEAD_WB_EN=1)


def head_writeback_ordering(nic: ByHand, wrong: bool) -> None:
    nic.look_around()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.place_transmit_ring(0, Ring(nic.nic, 64))
    nic.regs.DCA_TXCTRL[0].update(TXDESCWBRO=int(wrong))
    nic.regs.TXDCTL[0].write(ENABLE=1)


def interval_with_wthresh(nic: ByHand, wrong: bool) -> None:
    up(nic, tx=0)
    nic.regs.IVAR[0].write(INT_ALLOC_1=3, INT_ALLOC_VAL_1=1)
    nic.regs.EITR[3].write(ITR_INTERVAL=0 if wrong else 10)
    nic.tx = [nic.transmit_queue(0, wthresh=8)]
    nic.send(frame())


# ---- memory.py ----


def dma_read(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.post(frame(), address=0x1000 if wrong else nic.tx[0].buffer(0))
    nic.kick()
    nic.nic.step()


def dma_write(nic: ByHand, wrong: bool) -> None:
    up(nic)
    nic.rx[0].write(0, 0x1000 if wrong else nic.rx[0].buffer(0), 0)
    nic.send(frame())
