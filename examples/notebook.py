# %% [markdown]
# # A port in a notebook
#
# Jupyter (with jupytext), VS Code, Spyder and PyCharm show this file as cells: each begins at a line `# %%`, and shows
# the value of its last line. It also runs as it is: `python examples/notebook.py`. No NIC is needed.

# %%
import numpy as np

from ixrings import ETHERNET, open_port

port = open_port("emulated:loop", promiscuous=True, tx_slots=64, rx_slots=64)  # "0000:03:00.0" for a real NIC
port  # the port with its rings: who owns which slot

# %% [markdown]
# Registers have the datasheet's names and sections. Tab completes the names of registers, and of the fields of a value.

# %%
port.nic.LINKS

# %%
value = port.nic.TXDCTL[0].read()
print(value.ENABLE)
value

# %% [markdown]
# ## Send
#
# The program owns the slots of a span: it fills their buffers, then advances.

# %%
ring = port.tx_rings[0]
span = ring.reserve(8)
span.len[:] = 60
port.write(span, b"\xff" * 12 + b"\x88\xb5" + bytes(46))
for number, slot in enumerate(span):  # one by one; for speed, write all rows at once
    slot.buffer[14] = number
span

# %%
ring.advance(len(span))
port  # eight slots are released: the next sync gives them to the NIC

# %%
port.txsync()
port.flush()
port  # they are sent, and came back over the looped cable

# %% [markdown]
# ## Receive
#
# numpy looks at all frames of a span at once.

# %%
port.poll(1.0)
span = port.rx_rings[0].reserve(8)
kinds = port.read(span, ETHERNET)["ethertype"]
numbers = port.read(span, np.uint8, offset=14)
print(len(span), "frames of EtherType", hex(kinds[0]), "with the numbers", numbers.ravel().tolist())
span

# %%
port.rx_rings[0].advance(len(span))
port.stats()  # the counters that are not zero, and where frames were lost

# %%
port.close()
port
