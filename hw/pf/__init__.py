"""What the driver of a physical function does for its virtual functions, by the NIC's registers (82599 4.6.10).

The emulator's agent and the driver both are such drivers, so this is here, where both may import it.
"""
