"""Lab 12: a virtual function: its mailbox, its queue, and a frame that pretends to be a neighbour's."""

import time

from course import DESCRIPTOR, load, open_nic, pf, put, store

from ixrings.hw.device import Device
from ixrings.hw.registers import VfRegisters

SLOTS = 64
PATIENCE_S = 1.0
RESET, SET_MAC, NEGOTIATE = 0x01, 0x02, 0x08  # requests
API_1_3 = 4
ACK, NACK = 1 << 31, 1 << 30  # in word 0 of an answer
DD = 1 << 32
EOP, IFCS, RS, DEXT, DATA = 1 << 24, 1 << 25, 1 << 27, 1 << 29, 3 << 20
EVERYBODY = b"\xff" * 6
OTHER = bytes.fromhex("02000000c0de")  # an address that nobody has


def frame(source: bytes) -> bytes:
    return EVERYBODY + source + b"\x88\xb5" + b"who am I?"


class Vf:
    """A virtual function with one transmit queue."""

    def __init__(self, device: Device) -> None:
        self.nic = VfRegisters(device)
        device.enable_bus_master(True)
        self.ring, self.buffer = device.alloc_dma(SLOTS * DESCRIPTOR), device.alloc_dma(2048)
        self.next = 0

    # ---- the mailbox ----

    def take_mailbox(self) -> None:
        """The buffer has one owner: VFU is set only while the PF does not use it."""
        end = time.monotonic() + PATIENCE_S
        ...  # GAP 1: Write VFMAILBOX with VFU=1, again and again until a read shows VFU; give up past `end`.

    def ask(self, *words: int) -> list[int]:
        """Send a request to the PF. Returns the first three words of its answer."""
        self.take_mailbox()
        ...  # GAP 2: Write the words to VFMBMEM[0], VFMBMEM[1] and so on. Then write VFMAILBOX with REQ=1 alone: it calls
        #   the PF, and gives the buffer back.

        ...  # GAP 3: Wait until the PF has answered: VFMAILBOX.PFSTS reads 1.

        self.take_mailbox()
        answer = [0, 0, 0]
        ...  # GAP 4: Read VFMBMEM[0], [1] and [2] into `answer`. Then write VFMAILBOX with ACK=1 alone.

        return answer

    # ---- bring-up ----

    def bring_up(self) -> bytes:
        """Reset the function, and introduce it to the PF. Returns its address."""
        ...  # GAP 5: Set VFCTRL.RST. Then wait until VFMAILBOX.RSTI, "the PF is in reset", reads 0.

        address = bytes(6)
        ...  # GAP 6: Ask for RESET. The address is in the answer's words 1 (bytes 0 to 3) and 2 (bytes 4 and 5), the first
        #   byte in the lowest bits.

        ...  # GAP 7: Ask for NEGOTIATE with API_1_3 in word 1.

        self.start_queue()
        return address

    def start_queue(self) -> None:
        """As in lab 03; after each reset of the function."""
        self.next = 0
        ...  # GAP 8: Give queue 0 its ring: VFTDBAL[0], VFTDBAH[0], VFTDLEN[0]. Set VFTXDCTL[0].ENABLE, and wait until it
        #   reads 1.

    # ---- frames ----

    def send(self, data: bytes) -> int:
        """Send a frame and wait for DD. Returns how many frames have left the function for it: 1 or 0."""
        before = 0
        ...  # GAP 9: Remember VFGPTC, the number of frames that have left this function.

        put(self.buffer, 0, data)
        store(self.ring, self.next, self.buffer.iova, len(data) | len(data) << 46 | DATA | DEXT | EOP | IFCS | RS)
        slot, self.next = self.next, (self.next + 1) % SLOTS
        self.nic.VFTDT[0].write(self.next)
        end = time.monotonic() + PATIENCE_S
        while not load(self.ring, slot)[1] & DD and time.monotonic() < end:
            pass
        return int(self.nic.VFGPTC.read()) - before


with open_nic() as device:
    vf = Vf(device)
    own = vf.bring_up()
    neighbour = bytes.fromhex(pf("vf 0 mac").replace(":", ""))
    print(f"with my address: {vf.send(frame(own))} sent")

    ...  # GAP 10: Send a frame that pretends to be the neighbour's, and print "with the neighbour's address: 0 sent",
    #   with the number that send() returns. Print pf("spoofed"), too.

    refused = False
    ...  # GAP 11: Ask the PF for the address OTHER: SET_MAC with words 1 and 2 as in the answer to RESET.

    print("SET_MAC was refused" if refused else "SET_MAC was not refused")
    ...  # GAP 12: Let the administrator switch the check off, pf("vf 1 spoofchk off"). Send the neighbour's frame again.
    #   Switch the check on again.

    ...  # GAP 13: Let the administrator trust this function, pf("vf 1 trust on"). The PF then forgets it: bring it up again.

    ...  # GAP 14: Ask for the address OTHER again, and send a frame from it.
