"""The tasks of the leaderboard: the one list to which a new task adds a line."""

# What a leaderboard shows when no tasks are asked for: one of each kind of
# demand, quick enough to run all variants through in minutes.
HEADLINE_TASKS = [
    "//tasks/mqar",
    "//tasks/selective_copy",
    "//tasks/state_summary",
]

TASKS = HEADLINE_TASKS + [
    "//tasks/in_context_recall",
    "//tasks/noisy_recall",
]
