"""What the two ports and the firmware share: EEPROM, PHY and module, behind semaphores (82599 10.5.4, 8.2.3.2, 8.2.3.4)."""

from __future__ import annotations

from ixrings.hw import fields as f

from .access import Access
from .findings import ERROR, WARNING, rule


@rule("10.5.4", WARNING, "SW_FW_SYNC is written only by who holds SWSM.SMBI and SWESMBI", writes=("SW_FW_SYNC",))
def semaphore_for_sw_fw_sync(now: Access) -> str | None:
    held = now.regs.SWSM.read()
    return None if held.SMBI and held.SWESMBI else f"SWSM is {held!r}"


@rule(
    "10.5.4",
    WARNING,
    "The module's two wires and MDIO are used only with a SW_FW_SYNC.SW_PHY_SM bit taken",
    writes=("I2CCTL", "MSCA"),
)
def semaphore_for_phy(now: Access) -> str | None:
    taken = now.regs.SW_FW_SYNC.read()
    if taken.SW_PHY_SM0 or taken.SW_PHY_SM1 or (now.name == "I2CCTL" and now.value == now.before):
        return None
    return f"SW_FW_SYNC is {taken!r}"


@rule("10.5.4", WARNING, "EEC.EE_REQ asks for the EEPROM's pins only with SW_FW_SYNC.SW_EEP_SM taken", writes=("EEC",))
def semaphore_for_eeprom(now: Access) -> str | None:
    taken = now.regs.SW_FW_SYNC.read()
    return f"SW_FW_SYNC is {taken!r}" if now.rises("EE_REQ") and not taken.SW_EEP_SM else None


@rule("10.5.4", WARNING, "A resource that the firmware has in SW_FW_SYNC is not taken", writes=("SW_FW_SYNC",))
def firmware_comes_first(now: Access) -> str | None:
    before, asked = f.SW_FW_SYNC(now.before), f.SW_FW_SYNC(now.value)
    taken = [
        name
        for name in f.SW_FW_SYNC.fields
        if name.startswith("FW_") and getattr(before, name) and now.rises(f"SW_{name[3:]}")
    ]
    return f"SW_FW_SYNC becomes {asked!r} while it has {', '.join(taken)}" if taken else None


@rule("8.2.3.22.11", ERROR, "MSCA.MDICMD has cleared itself before the next access on MDIO", writes=("MSCA",))
def mdio_access_awaited(now: Access) -> str | None:
    again = f.MSCA(now.history.of(now.regs.MSCA).written).MDICMD
    return now.not_read_since(now.regs.MSCA, now.regs.MSCA, MDICMD=0) if again else None


@rule("8.2.3.2.2", ERROR, "EERD.DONE is awaited before the next word is asked for", writes=("EERD",))
def eerd_done_awaited(now: Access) -> str | None:
    again = f.EERD(now.value).START and f.EERD(now.history.of(now.regs.EERD).written).START
    return now.not_read_since(now.regs.EERD, now.regs.EERD, DONE=1) if again else None
