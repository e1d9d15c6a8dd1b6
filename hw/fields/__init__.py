"""The fields of the 82599's registers under the datasheet's names: a class for each register, a line for each field.

    NAME = bit(position, meaning, values)
    NAME = bits(high, low, meaning, values)

meaning   the purpose of the field; left out if the name is enough
values    the meaning of single numbers of the field

The files follow the datasheet's chapters 8.2.3.1 to 8.2.3.27:

1 to 4    general.py       control, EEPROM and flash, flow control, PCIe and semaphores
5, 6      interrupts.py
7, 8      receive.py       filters and RSS, receive DMA
9 to 11   transmit.py      transmit, DCB, DCA
12 to 21  offloads.py      security, the TCP timer, FCoE, flow director
22        mac.py           MAC, link, MDIO
23 to 27  system.py        statistics, wake-up, manageability, time, virtualisation

virtual_function.py has what only a virtual function has (8.3.5).

ASSUMPTION (datasheet not at hand): if no code here uses a field, its meaning is taken from its name and from other
drivers.

A register without named fields has no class: it is a plain `Word` in hw/registers/.
"""

from __future__ import annotations

from .general import *
from .interrupts import *
from .mac import *
from .offloads import *
from .receive import *
from .system import *
from .transmit import *
from .virtual_function import *
