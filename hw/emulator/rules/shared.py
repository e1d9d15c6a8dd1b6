"""EEPROM, PHY and module, shared with the other port and the firmware (82599 10.5.4, 8.2.3.2, 8.2.3.4)."""

from __future__ import annotations

from ... import fields as f
from .access import Access
from .findings import ERROR, WARNING, rule


@rule("10.5.4", WARNING, "SW_FW_SYNC is written only while SWSM.SMBI and SWESMBI are held", writes=("SW_FW_SYNC",))
def semaphore_for_sw_fw_sync(now: Access) -> str | None:
    held = now.regs.SWSM.read()
    return None if held.SMBI and held.SWESMBI else f"SWSM is {held!r}"


@rule(
    "10.5.4",
    WARNING,
    "I2CCTL and MSCA are used only while SW_FW_SYNC.SW_PHY_SM0 or SW_PHY_SM1 is held",
    writes=("I2CCTL", "MSCA"),
)
def semaphore_for_phy(now: Access) -> str | None:
    taken = now.regs.SW_FW_SYNC.read()
    if taken.SW_PHY_SM0 or taken.SW_PHY_SM1 or (now.name == "I2CCTL" and now.value == now.before):
        return None
    return f"SW_FW_SYNC is {taken!r}"


@rule("10.5.4", WARNING, "EEC.EE_REQ is set only while SW_FW_SYNC.SW_EEP_SM is held", writes=("EEC",))
def semaphore_for_eeprom(now: Access) -> str | None:
    taken = now.regs.SW_FW_SYNC.read()
    return f"SW_FW_SYNC is {taken!r}" if now.rises("EE_REQ") and not taken.SW_EEP_SM else None


@rule("10.5.4", WARNING, "A resource that the firmware holds in SW_FW_SYNC is not taken", writes=("SW_FW_SYNC",))
def firmware_comes_first(now: Access) -> str | None:
    before, asked = f.SW_FW_SYNC(now.before), f.SW_FW_SYNC(now.value)
    taken = [
        name
        for name in f.SW_FW_SYNC.fields
        if name.startswith("FW_") and getattr(before, name) and now.rises(f"SW_{name[3:]}")
    ]
    return f"SW_FW_SYNC becomes {asked!r}; the firmware holds {', '.join(taken)}" if taken else None


@rule("8.2.3.22.11", ERROR, "MSCA.MDICMD is read as 0 before the next MDIO access starts", writes=("MSCA",))
def mdio_access_awaited(now: Access) -> str | None:
    again = f.MSCA(now.history.of(now.regs.MSCA).written).MDICMD
    return now.not_read_since(now.regs.MSCA, now.regs.MSCA, MDICMD=0) if again else None


@rule("8.2.3.2.2", ERROR, "EERD.DONE is read as 1 before the next word is requested", writes=("EERD",))
def eerd_done_awaited(now: Access) -> str | None:
    again = f.EERD(now.value).START and f.EERD(now.history.of(now.regs.EERD).written).START
    return now.not_read_since(now.regs.EERD, now.regs.EERD, DONE=1) if again else None
