"""The weakly supervised pipeline of the paper; produces what the monitor loads."""
