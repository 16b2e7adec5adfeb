"""Declares a task: what a model is asked."""

load("@rules_cc//cc:defs.bzl", "cc_library", "cc_test")

# Resolved where this file is, so that the macro serves other workspaces too.
_TASK = Label("//tasks:task")
_CONTRACT = Label("//tasks:task_contract_main")
_GTEST = Label("@com_google_googletest//:gtest_main")

def task(name, srcs = None, hdrs = [], deps = [], test_deps = [], test_size = "small"):
    """A task NAME from NAME.cc, its own test and its contract test.

    Makes
      - NAME, a library that registers the task in whatever binary links it;
      - NAME_test, from NAME_test.cc: what is particular to this task;
      - NAME_contract_test: what every task promises (task_contract.h), on each
        profile, and that data change only with the version. The hashes are in
        NAME.golden, which is written by

            ./bazelw run //tasks/NAME:NAME_contract_test -- --update_golden

    Name the package in TASKS of tasks.bzl to put the task on the leaderboard.

    Args:
      name: the task, which must be its descriptor's name too.
      srcs: sources; NAME.cc by default.
      hdrs: headers, if it shares anything with other tasks.
      deps: what it uses besides //tasks:task.
      test_deps: what NAME_test uses besides the task and GoogleTest.
      test_size: size of both tests.
    """
    cc_library(
        name = name,
        srcs = srcs or [name + ".cc"],
        hdrs = hdrs,
        visibility = ["//visibility:public"],
        deps = [_TASK] + deps,
        # Nothing calls it by name: its registration must be linked all the same.
        alwayslink = True,
    )
    cc_test(
        name = name + "_test",
        size = test_size,
        srcs = [name + "_test.cc"],
        deps = [":" + name, _TASK, _GTEST] + test_deps,
    )
    cc_test(
        name = name + "_contract_test",
        size = test_size,
        args = [
            "--golden=$(rootpath %s.golden)" % name,
            "--target=//%s:%s_contract_test" % (native.package_name(), name),
        ],
        data = [name + ".golden"],
        deps = [":" + name, _CONTRACT],
    )
