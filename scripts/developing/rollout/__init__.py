"""The rehearsal of a roll-out: the app and its truth, the clients and their answers, the stages. See `balance rehearsal`."""
