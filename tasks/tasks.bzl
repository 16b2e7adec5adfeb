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
    "//tasks/clustering",
    "//tasks/common_words",
    "//tasks/compression",
    "//tasks/dfa",
    "//tasks/distinct_count",
    "//tasks/frequent_words",
    "//tasks/fuzzy_recall",
    "//tasks/group_word",
    "//tasks/in_context_recall",
    "//tasks/listops",
    "//tasks/memorization",
    "//tasks/noisy_recall",
    "//tasks/passkey",
    "//tasks/percentage",
    "//tasks/reorder",
    "//tasks/set_disjointness",
    "//tasks/string_copy",
    "//tasks/text",
    "//tasks/text_needle",
    "//tasks/variable_tracking",
]
