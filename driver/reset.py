"""Reset: from any state to a quiet NIC, at the start and at the end (82599 4.2.1.6.1, 4.6.3, 5.2.5.3.2)."""

from __future__ import annotations

import time

from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError, RegisterTimeout
from ixrings.hw.registers import QUEUES, Registers

from .queue_registers import QueueRegisters

ALL_CAUSES = 0x7FFF_FFFF
DEVICE_STATUS = 0xAA  # PCIe device status (9.3.10.6)
TRANSACTIONS_PENDING = 1 << 5
CHECKSUM, CHECKSUM_WORD = 0xBABA, 0x3F
FIRST_SECTION, LAST_SECTION = 0x03, 0x0E
NO_SECTION = (0, 0xFFFF)


def disable_interrupts(nic: Registers) -> None:
    """Mask every cause and clear what is pending (4.6.3.1)."""
    nic.EIMC.write(ALL_CAUSES)
    for upper in nic.EIMC_EX:
        upper.write(0xFFFF_FFFF)
    nic.EICR.read()


def disable_receive_queue(nic: QueueRegisters, queue: int) -> None:
    """Disable a queue (4.6.7.1.2). The caller waits 100 us before it releases the ring's memory."""
    if nic.RXDCTL[queue].read().ENABLE:
        nic.RXDCTL[queue].update(ENABLE=0)
        nic.RXDCTL[queue].wait(ENABLE=0, timeout=0.010, section="4.6.7.1.2")


def disable_transmit_queue(nic: QueueRegisters, queue: int) -> None:
    """Disable a queue (4.6.8.1). SWFLSH writes back the descriptors that the NIC has fetched already."""
    if nic.TXDCTL[queue].read().ENABLE:
        nic.TXDCTL[queue].update(ENABLE=0, SWFLSH=1)
        nic.TXDCTL[queue].wait(ENABLE=0, timeout=0.010, section="4.6.8.1")


def disable_queues(nic: Registers) -> None:
    """Disable all queues, also those of an earlier driver. Master disable is allowed only after this (5.2.5.3.2)."""
    for queue in range(QUEUES):
        disable_receive_queue(nic, queue)
        disable_transmit_queue(nic, queue)
    time.sleep(100e-6)


def disable_master(device: Device, nic: Registers) -> bool:
    """Stop new DMA. Returns False if requests are still pending: then one reset is not enough (5.2.5.3.2)."""
    nic.CTRL.update(GIO_DIS=1)
    try:
        nic.STATUS.wait(GIO_MASTER_EN=0, timeout=0.080, section="5.2.5.3.2")
        if not device.config_read(DEVICE_STATUS, 2) & TRANSACTIONS_PENDING:
            return True
    except RegisterTimeout:
        pass
    flush_data_path(nic)
    return False


def flush_data_path(nic: Registers) -> None:
    """Discard requests that never complete: loopback on, then clear the PCIe buffers (5.2.5.3.2)."""
    nic.HLREG0.update(LPBK=1)
    nic.RXCTRL.update(RXEN=0)
    nic.GCR_EXT.update(BUFFERS_CLEAR_FUNC=1)
    time.sleep(20e-6)
    nic.GCR_EXT.update(BUFFERS_CLEAR_FUNC=0)
    nic.HLREG0.update(LPBK=0)


def global_reset(nic: Registers, *, link: bool) -> None:
    """Software reset; with `link`, link reset too (8.2.3.1.1, 4.6.3.2).

    The NIC must not be read for 1 ms and not be programmed for 10 ms. Without `link`, a link that is up stays up:
    training it again costs seconds.
    """
    nic.CTRL.update(RST=1, LRST=int(link))
    time.sleep(0.001)
    nic.CTRL.wait(RST=0, LRST=0, timeout=0.100, section="8.2.3.1.1")
    time.sleep(0.010)


def quiesce(device: Device, nic: Registers, *, link: bool = False) -> None:
    """Interrupts off, queues off, master disable, reset, interrupts off (4.2.1.6.1).

    Afterwards the NIC does no DMA and sends no interrupt. Raises RegisterTimeout.
    """
    disable_interrupts(nic)
    stuck: RegisterTimeout | None = None
    try:
        disable_queues(nic)
    except RegisterTimeout as error:  # the reset below stops the queue; raise the error after it
        stuck = error
    if not disable_master(device, nic):
        global_reset(nic, link=link)
    global_reset(nic, link=link)
    disable_interrupts(nic)
    if stuck is not None:
        raise stuck


def wait_eeprom_auto_read(nic: Registers) -> None:
    """Wait until the NIC has read MAC address, link mode and analogue settings from the EEPROM (4.6.3, 8.2.3.2.1).

    Raises RegisterTimeout, and DeviceError without a readable EEPROM or after a fault of the firmware.
    """
    control = nic.EEC.wait(AUTO_RD=1, timeout=0.100, section="4.6.3")
    if not control.EE_PRES:  # without an EEPROM, AUTO_RD is set too
        raise DeviceError(
            f"the NIC has no readable EEPROM: {nic.EEC!r} (82599 8.2.3.2.1). Reflash it, or use another card"
        )
    if nic.FWSM.read().EXT_ERR_IND:
        raise DeviceError(
            f"the NIC's firmware reports an EEPROM or start-up fault: {nic.FWSM!r} (82599 4.6.3). "
            "Power the machine off and on; if the fault remains, reflash the EEPROM"
        )


def read_eeprom(nic: Registers, word: int) -> int:
    """Read one 16-bit word (8.2.3.2.2)."""
    nic.EERD.write(START=1, ADDR=word)
    return nic.EERD.wait(DONE=1, timeout=0.010).DATA


def check_eeprom(nic: Registers) -> None:
    """Check that words 0x00 to 0x3F, and the sections that words 0x03 to 0x0E point to, add up to 0xBABA (6.2).

    Raises DeviceError. The check is needed because some settings of a corrupt image, such as the analogue side of the
    link, cannot be read back.
    """
    words = [read_eeprom(nic, word) for word in range(CHECKSUM_WORD + 1)]
    total = sum(words)
    for section in words[FIRST_SECTION : LAST_SECTION + 1]:
        length = 0 if section in NO_SECTION else read_eeprom(nic, section)
        if length not in NO_SECTION:
            total += sum(read_eeprom(nic, section + at) for at in range(1, length + 1))
    if total & 0xFFFF != CHECKSUM:
        raise DeviceError(
            f"the NIC's EEPROM is corrupt: its words add up to {total & 0xFFFF:#06x}, not {CHECKSUM:#06x} (82599 6.2). "
            "Reflash it, or use another card"
        )


def wait_dma_init(nic: Registers) -> None:
    """Wait until the NIC has initialised its DMA after a reset (4.6.3). Raises RegisterTimeout."""
    nic.RDRXCTL.wait(DMAIDONE=1, timeout=0.100, section="4.6.3")
