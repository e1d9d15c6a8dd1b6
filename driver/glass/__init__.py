"""`ixrings glass`: a page that shows an emulated NIC, or the rings of a program, live."""
