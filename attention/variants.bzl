"""The variants that Mneme ships: the one list to which a new one is added."""

VARIANTS = [
    "//attention/linear",
    "//attention/retention",
    "//attention/softmax",
]
