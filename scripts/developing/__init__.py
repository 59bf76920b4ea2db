"""What only this project's developers run: attacks, the rehearsal of a roll-out, the libraries' vulnerabilities, currencies."""
