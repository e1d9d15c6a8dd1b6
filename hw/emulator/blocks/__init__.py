"""The register blocks of the software 82599 that do more than hold a value, a file each."""
