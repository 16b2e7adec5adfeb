"""The tasks of the leaderboard: the one list to which a new task adds a line."""

# What a leaderboard shows when no tasks are asked for: one of each kind of
# demand, quick enough to run all variants through in minutes.
HEADLINE_TASKS = [
    "//tasks/mqar",
    "//tasks/needle",
    "//tasks/selective_copy",
    "//tasks/state_summary",
]

TASKS = HEADLINE_TASKS + [
    "//tasks/common_words",
    "//tasks/distinct_count",
    "//tasks/frequent_words",
    "//tasks/in_context_recall",
    "//tasks/noisy_recall",
    "//tasks/passkey",
    "//tasks/percentage",
    "//tasks/variable_tracking",
]
