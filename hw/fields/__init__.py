"""The fields of the 82599's registers: a class a register, a line a field, named as in the datasheet. By chapters of its 8.2.3:

1 to 4    general.py       control, EEPROM and flash, flow control, PCIe and semaphores
5         interrupts.py
7, 8      receive.py       filters and RSS, receive DMA
9 to 11   transmit.py      transmit, DCB, DCA
12 to 21  offloads.py      security, the TCP timer, FCoE, flow director
22        mac.py           MAC, link, MDIO
23 to 27  system.py        statistics, wake-up, manageability, time, virtualisation

Only registers with fields worth naming have a class; the others are plain `Word`s in hw/registers/__init__.py.
"""

from __future__ import annotations

from .general import *
from .interrupts import *
from .mac import *
from .offloads import *
from .receive import *
from .system import *
from .transmit import *
