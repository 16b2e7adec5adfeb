"""The tasks of the leaderboard: the one list to which a new task adds a line."""

TASKS = [
    "//tasks/mqar",
    "//tasks/needle",
    "//tasks/passkey",
    "//tasks/variable_tracking",
]
