"""The tasks of the leaderboard: the one list to which a new task adds a line."""

TASKS = [
    "//tasks/common_words",
    "//tasks/distinct_count",
    "//tasks/frequent_words",
    "//tasks/mqar",
    "//tasks/percentage",
    "//tasks/state_summary",
]
