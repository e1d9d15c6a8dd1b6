"""One process that has the NICs, and any number of programs that use them as netmap programs do."""
