"""The command `balance`: one module a subcommand, thin. What only this project's developers run is in `developing`."""
