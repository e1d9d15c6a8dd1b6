"""Mistakes that students make: a replacement in a lab's solution, and a part of the sentence that explains it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    lab: str
    name: str
    right: str
    wrong: str
    sentence: str


MISTAKES = (
    Mistake("01", "bytes backwards", 'low.to_bytes(4, "little")', 'low.to_bytes(4, "big")', "printed backwards"),
    Mistake(
        "01",
        "the wrong half of RAH",
        "high = nic.RAH[0].read().RAH",
        "high = int(nic.RAH[0].read()) >> 16",
        "the last two bytes printed are wrong",
    ),
    Mistake(
        "01", "another entry", "nic.RAL[0].read()", "nic.RAL[1].read()", "RAL[0] was never read, only another entry"
    ),
    Mistake("02", "too early", "time.sleep(0.010)", "pass", "must be left alone for"),
    Mistake("02", "nothing masked", "nic.EIMC.write(ALL_CAUSES)", "nic.EIMC.write(0)", "every 1 masks a cause"),
    Mistake("02", "wrong link mode", "LMS=3", "LMS=1", "AUTOC.LMS was 1"),
    Mistake("02", "RST not awaited", "    nic.CTRL.wait(RST=0, timeout=0.1)\n", "", "CTRL.RST was not read as 0"),
    Mistake(
        "03", "address of this process", "q0 = buffer.iova", "q0 = buffer.address", "not this process's (.address)"
    ),
    Mistake("03", "no EOP", " | EOP | IFCS | RS", " | IFCS | RS", "has no EOP (bit 24)"),
    Mistake(
        "03", "no PAYLEN", "len(frame) | len(frame) << 46", "len(frame)", "has PAYLEN 0 (bits 63:46) and DTALEN 26"
    ),
    Mistake("03", "no RS", "EOP | IFCS | RS\n\n    store", "EOP | IFCS\n\n    store", "has no RS (bit 27)"),
    Mistake("03", "no IFCS", " | EOP | IFCS | RS", " | EOP | RS", "has no IFCS (bit 25)"),
    Mistake(
        "03",
        "tail at the descriptor, not after it",
        "TDT[0].write(1)",
        "TDT[0].write(0)",
        "gave the NIC no descriptor",
    ),
    Mistake(
        "03",
        "tail before enable is awaited",
        "    nic.TXDCTL[0].wait(ENABLE=1, timeout=0.1)\n",
        "",
        "was not read as 1 before TDT[0] moved",
    ),
    Mistake(
        "03",
        "slots for bytes",
        "TDLEN[0].write(SLOTS * 16)",
        "TDLEN[0].write(SLOTS)",
        "it counts bytes, 16 for each descriptor",
    ),
    Mistake("03", "wrong payload", 'b"Hello, wire!"', 'b"Hello, world"', "in its payload"),
    Mistake(
        "04", "address of this process", "q0 = buffer.iova", "q0 = buffer.address", "not this process's (.address)"
    ),
    Mistake("04", "length from the wrong bits", ">> 32 & 0xFFFF", ">> 33 & 0xFFFF", "only the beginning of the frame"),
    Mistake(
        "04",
        "reception switched on during a frame",
        "    nic.SECRXSTAT.wait(SECRX_RDY=1, timeout=0.1)\n",
        "",
        "while a frame could be half received",
    ),
    Mistake("04", "path left closed", "    nic.SECRXCTRL.update(RX_DIS=0)\n", "", "RX_DIS is still 1"),
    Mistake("04", "buffer size too small", "BSIZEPACKET=2", "BSIZEPACKET=1", "it counts KB"),
    Mistake(
        "05",
        "tail one too far",
        "self.nic.RDT[0].write(slot)",
        "self.nic.RDT[0].write((slot + 1) % self.SLOTS)",
        "that is one too far",
    ),
    Mistake(
        "05",
        "tail beyond the ring",
        "self.next = (slot + 1) % self.SLOTS\n        self.nic.TDT",
        "self.next = slot + 1\n        self.nic.TDT",
        "the ring has 8 descriptors, 0 to 7",
    ),
    Mistake(
        "05",
        "descriptor not refilled",
        "        self.fill(slot)\n        self.nic.RDT",
        "        self.nic.RDT",
        "an old frame looks like a new one",
    ),
    Mistake(
        "05",
        "no slot kept free",
        "self.wait_for((slot + 1) % self.SLOTS)",
        "self.wait_for(slot)",
        "One slot stays free",
    ),
    Mistake(
        "06",
        "head not aligned",
        "self.head.iova & 0xFFFF_FFFF, HEAD",
        "self.head.iova + 8 & 0xFFFF_FFFF, HEAD",
        "16-byte aligned",
    ),
    Mistake(
        "06",
        "a report for each frame",
        "report=number == BATCH - 1",
        "report=True",
        "256 of the 256 descriptors in batches had RS",
    ),
    Mistake(
        "06",
        "a tail write for each frame",
        "number == BATCH - 1)\n        sender.kick()",
        "number == BATCH - 1)\n            sender.kick()",
        "took 256 writes of TDT[0]",
    ),
    Mistake("06", "relaxed ordering left on", "TXDESCWBRO=0", "TXDESCWBRO=1", "may overtake the reads"),
    Mistake("07", "wrong vector", "INT_ALLOC_0=0,", "INT_ALLOC_0=1,", "INT_ALLOC_0 is 1"),
    Mistake("07", "cause not cleared", "nic.EIAC.write(1)", "nic.EIAC.write(0)", "EIAC bit 0 is 0"),
    Mistake("07", "vector not masked", "MSIX_MODE=1, EIAME=1", "MSIX_MODE=1", "GPIE.EIAME was not set"),
    Mistake("07", "message not read", "        os.eventfd_read(message)\n", "", "cannot have caused"),
    Mistake("08", "too many queues in the table", "return entry % QUEUES", "return entry % 8", "RETA names queue 4"),
    Mistake("08", "ports not hashed", ", UDPIPV4=1", "", "MRQC.UDPIPV4 is 0"),
    Mistake("08", "half a key", "in range(10)", "in range(5)", "RSSRK[5] is 0"),
    Mistake("09", "head left where it was", "    nic.TDH[0].write(0)\n", "", "TDH[0] was not set to 0"),
    Mistake(
        "09",
        "disable not awaited",
        "    nic.TXDCTL[0].wait(ENABLE=0, timeout=0.1)\n",
        "",
        "was not read as 0 after it was cleared",
    ),
    Mistake(
        "09",
        "the same address again",
        "sent = send(nic, ring, buffer.iova",
        "sent = send(nic, ring, nowhere",
        "is not mapped either",
    ),
    Mistake(
        "10",
        "one length for all frames",
        "sent.len[i] = received.len[i]",
        "sent.len[i] = 60",
        "copy len to the transmit slot",
    ),
    Mistake(
        "10",
        "frames copied",
        "received.buf_idx[i], sent.buf_idx[i] = int(sent.buf_idx[i]), int(received.buf_idx[i])",
        "port.buffers[int(sent.buf_idx[i])] = port.buffers[int(received.buf_idx[i])]",
        "frames were copied",
    ),
    Mistake("10", "nothing released", "    receive.advance(count)\n", "", "got no slot back"),
)
