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
    Mistake("01", "a wait for nothing", "wait(AUTO_RD=1, timeout", "wait(timeout", "EEC.AUTO_RD was never read as 1"),
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
    Mistake("02", "other fields of AUTOC cleared", "AUTOC.update(LMS", "AUTOC.write(LMS", "that clears bits of"),
    Mistake(
        "03",
        "bus mastering switched off",
        "    prepare_transmit(nic)\n",
        "    prepare_transmit(nic)\n    device.enable_bus_master(False)\n",
        "Bus mastering was off",
    ),
    Mistake(
        "03",
        "lower half of the ring's address forgotten",
        "    nic.TDBAL[0].write(ring.iova & 0xFFFF_FFFF)\n",
        "",
        "TDBAL[0] was never written: ",
    ),
    Mistake(
        "03",
        "upper half of the ring's address forgotten",
        "    nic.TDBAH[0].write(ring.iova >> 32)\n",
        "",
        "TDBAH[0] was never written: ",
    ),
    Mistake(
        "03",
        "lower half of another address",
        "TDBAL[0].write(ring.iova",
        "TDBAL[0].write(ring.address",
        "which is not mapped for the NIC",
    ),
    Mistake(
        "03",
        "ring of another queue",
        "nic.TDBAL[0]",
        "nic.TDBAL[1]",
        "TDBAL[0] was never written (TDBAL[1] was written)",
    ),
    Mistake(
        "03",
        "tail two descriptors on",
        "TDT[0].write(1)",
        "TDT[0].write(2)",
        "The tail is the number of the first descriptor that is not the NIC's",
    ),
    Mistake(
        "03",
        "DD in the wrong word",
        "load(ring, 0)[1] & DD",
        "load(ring, 0)[0] & DD",
        "the NIC had set DD, but the script did not find it",
    ),
    Mistake(
        "04",
        "DD in the wrong word",
        "load(ring, 0)[1] & DD",
        "load(ring, 0)[0] & DD",
        "the NIC has set DD, but the script did not find it",
    ),
    Mistake(
        "04",
        "path opened too early",
        "    nic.RXCTRL.update(RXEN=1)\n    nic.SECRXCTRL.update(RX_DIS=0)\n",
        "    nic.SECRXCTRL.update(RX_DIS=0)\n    nic.RXCTRL.update(RXEN=1)\n",
        "RX_DIS was cleared before RXCTRL.RXEN was set",
    ),
    Mistake(
        "05",
        "receive index without end",
        "        self.next = (slot + 1) % self.SLOTS\n\n        return",
        "        self.next = slot + 1\n\n        return",
        "the next one is in descriptor 0, with DD set",
    ),
    Mistake(
        "05",
        "receive DD in another bit",
        "status & RX_DD",
        "status & TX_DD",
        "with DD set (RX_DD",
    ),
    Mistake(
        "05",
        "one buffer for all slots",
        "self.buffers.iova + slot * BUFFER, 0)",
        "self.buffers.iova, 0)",
        "these buffers overlap",
    ),
    Mistake(
        "05",
        "transmit DD in another bit",
        "load(self.ring, slot)[1] & TX_DD",
        "load(self.ring, slot)[0] & TX_DD",
        "waited for a transmit slot until it gave up",
    ),
    Mistake(
        "05",
        "a wait for slots that were never used",
        "slot in self.used and not",
        "not",
        "A slot that was never used has no DD and is free",
    ),
    Mistake(
        "05",
        "slots used again at once",
        "while slot in self.used",
        "while False and slot in self.used",
        "the script did not wait for a free slot",
    ),
    Mistake(
        "05",
        "tail before the next slot",
        "        self.next = (slot + 1) % self.SLOTS\n        self.nic.TDT[0].write(self.next)\n",
        "        self.nic.TDT[0].write(self.next)\n        self.next = (slot + 1) % self.SLOTS\n",
        "Go on to the next slot, and then write it to TDT[0]",
    ),
    Mistake(
        "05",
        "an answer without its type",
        "+ frame[12:]",
        "+ frame[14:]",
        "as the script gave it to the NIC, is wrong from byte 12 on, in its EtherType",
    ),
    Mistake(
        "06", "head written elsewhere", "self.head.iova >> 32", "self.head.iova >> 31", "which is not mapped for it"
    ),
    Mistake(
        "06",
        "no report for the last frame",
        "report=number == BATCH - 1",
        "report=number == 1",
        "the last descriptor given had no RS",
    ),
    Mistake("08", "table one entry too far", "range(0, 128, 4)", "range(1, 128, 4)", "RETA entry 0 names queue 1"),
    Mistake("09", "head of another queue", "nic.TDH[0].write(0)", "nic.TDH[1].write(0)", "TDH[0] was not set to 0"),
    Mistake("10", "source not exchanged", "    frame[6:12] = destination\n", "", "in its source"),
    Mistake(
        "10",
        "a buffer in two slots",
        "= int(sent.buf_idx[i]), int(received.buf_idx[i])",
        "= int(received.buf_idx[i]), int(received.buf_idx[i])",
        "a buffer that a transmit slot still has",
    ),
    Mistake(
        "11",
        "no mode",
        "reg.nr_mode = NR_REG_ONE_NIC",
        "reg.nr_mode = NR_REG_DEFAULT",
        "The registration was refused",
    ),
    Mistake(
        "11", "a name that is not there", "(header.nr_name, name,", '(header.nr_name, "ix7",', "there is no port 'ix7'"
    ),
    Mistake(
        "11",
        "the wrong length",
        "slot->len = LENGTH",
        "slot->len = LENGTH + 4",
        "Frame 0 has 64 bytes on the wire and should have 60",
    ),
    Mistake("11", "cur alone", "        tx->head = head;\n", "", "none was sent"),
    Mistake("11", "another number outside", "buf_idx = UINT32_MAX", "buf_idx = 3", "No slot had a buf_idx"),
    Mistake("12", "the buffer kept", "VFMAILBOX.write(REQ=1)", "VFMAILBOX.write(REQ=1, VFU=1)", "with REQ and VFU"),
    Mistake("12", "no acknowledgement", "        self.nic.VFMAILBOX.write(ACK=1)\n", "", "ACK was never written as 1"),
    Mistake(
        "12",
        "bytes backwards",
        'address = low.to_bytes(4, "little")',
        'address = low.to_bytes(4, "big")',
        "the first byte in the lowest bits",
    ),
    Mistake("12", "a version that does not exist", "API_1_3 = 4", "API_1_3 = 0x13", "NEGOTIATE had 19 in word 1"),
    Mistake("12", "RESET with more in word 0", "self.ask(RESET)", "self.ask(RESET | 1 << 16)", "It must be RESET"),
    Mistake(
        "12",
        "the ring of before the reset",
        "        self.nic.VFTDBAL[0].write(self.ring.iova & 0xFFFF_FFFF)\n",
        "",
        "VFTDBAL[0] was never written",
    ),
    Mistake(
        "12",
        "its own address",
        "{vf.send(frame(neighbour))} sent, {pf",
        "{vf.send(frame(own))} sent, {pf",
        "dropped no",
    ),
    Mistake("12", "the check left off", '    pf("vf 1 spoofchk on")\n', "", "was not switched on again"),
    Mistake(
        "12", "no second bring-up", '    pf("vf 1 trust on")\n    vf.bring_up()\n', '    pf("vf 1 trust on")\n', "CTS"
    ),
)
