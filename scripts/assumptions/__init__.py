"""What the protocol assumes of Firestore, each assumption a function that tries it; run by `balance check-assumptions`."""
