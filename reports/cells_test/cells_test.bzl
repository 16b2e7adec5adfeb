"""Tests of evaluation_cells (harness/defs.bzl): which actions it makes."""

load("@bazel_skylib//lib:unittest.bzl", "analysistest", "asserts")

def _flag(name):
    return str(Label("//reports/cells_test:" + name))

def _cells(env):
    return [
        action
        for action in analysistest.target_actions(env)
        if action.mnemonic == "MnemeCell"
    ]

def _records(env):
    """Where the cells' records go, below the directory of the target."""
    return sorted([
        action.outputs.to_list()[0].short_path.split("/cells/")[1]
        for action in _cells(env)
    ])

def _all_impl(ctx):
    env = analysistest.begin(ctx)
    asserts.equals(env, [
        "quick/copying.hare.0.record",
        "quick/copying.tortoise.0.record",
        "quick/mqar.hare.0.record",
        "quick/mqar.tortoise.0.record",
    ], _records(env))
    return analysistest.end(env)

_all_test = analysistest.make(_all_impl)

def _chosen_impl(ctx):
    env = analysistest.begin(ctx)
    directory = "published/zoology+train.steps_5+filler_zero/"
    asserts.equals(env, [
        directory + "mqar.hare.18446744073709551615.record",
        directory + "mqar.hare.3.record",
    ], _records(env))

    # Only the runner of the chosen variant is needed, so only it is built.
    for action in _cells(env):
        runners = [
            file.basename
            for file in action.inputs.to_list()
            if file.basename.endswith("_runner")
        ]
        asserts.equals(env, ["hare_runner"], runners)
    return analysistest.end(env)

_chosen_test = analysistest.make(_chosen_impl, config_settings = {
    _flag("profile"): "published/zoology",
    _flag("seeds"): ["3", "18446744073709551615", "3"],
    _flag("settings"): ["train.steps=5", "filler=zero"],
    _flag("tasks"): ["mqar"],
    _flag("variants"): ["hare"],
})

def _arguments_impl(ctx):
    env = analysistest.begin(ctx)
    action = [cell for cell in _cells(env) if "--variant=hare" in cell.argv][0]
    record = action.outputs.to_list()[0].path
    for argument in [
        "evaluate",
        "--quiet",
        "--task=mqar",
        "--profile=quick",
        "--seed=0",
        "--set=train.steps=5",
        "--out=" + record,
    ]:
        asserts.true(env, argument in action.argv, argument)
    status = [a for a in action.argv if a.startswith("--workspace_status=")]
    asserts.true(env, status[0].endswith("volatile-status.txt"), str(status))

    # Nobody trains unoptimised code, even when that is what is built.
    asserts.true(env, "-opt" in action.argv[0], action.argv[0])
    return analysistest.end(env)

_arguments_test = analysistest.make(_arguments_impl, config_settings = {
    "//command_line_option:compilation_mode": "dbg",
    _flag("settings"): ["train.steps=5"],
    _flag("tasks"): ["mqar"],
})

def _groups_impl(ctx):
    env = analysistest.begin(ctx)
    groups = analysistest.target_under_test(env)[OutputGroupInfo]
    files = getattr(groups, "mqar.hare.0").to_list()
    asserts.equals(env, ["mqar.hare.0.record"], [file.basename for file in files])
    return analysistest.end(env)

_groups_test = analysistest.make(_groups_impl)

def _failure_impl(ctx):
    env = analysistest.begin(ctx)
    asserts.expect_failure(env, ctx.attr.message)
    return analysistest.end(env)

def _failure_test(flag, value):
    return analysistest.make(
        _failure_impl,
        attrs = {"message": attr.string()},
        config_settings = {_flag(flag): value},
        expect_failure = True,
    )

_unknown_variant_test = _failure_test("variants", ["hare", "snail"])
_unknown_task_test = _failure_test("tasks", ["chess"])
_bad_seed_test = _failure_test("seeds", ["-1"])
_no_seed_test = _failure_test("seeds", [""])
_bad_setting_test = _failure_test("settings", ["=5"])
_no_profile_test = _failure_test("profile", "")

def cells_test_suite(name, target):
    """Declares all tests, of an evaluation_cells target.

    Args:
      name: of the suite.
      target: has the variants hare and tortoise, and the tasks mqar and copying.
    """
    tests = []
    for test, suffix in [
        (_all_test, "all"),
        (_arguments_test, "arguments"),
        (_chosen_test, "chosen"),
        (_groups_test, "groups"),
    ]:
        test(
            name = "{}_{}_test".format(name, suffix),
            size = "small",
            target_under_test = target,
        )
        tests.append("{}_{}_test".format(name, suffix))
    for test, suffix, message in [
        (_bad_seed_test, "bad_seed", "the seed \"-1\" is not a whole number >= 0"),
        (_bad_setting_test, "bad_setting", "\"=5\" is not name=value"),
        (_no_profile_test, "no_profile", "there must be a profile"),
        (_no_seed_test, "no_seed", "there must be a seed"),
        (_unknown_task_test, "unknown_task", "there is no task \"chess\"; there are: mqar, copying"),
        (_unknown_variant_test, "unknown_variant", "there is no variant \"snail\"; there are: hare, tortoise"),
    ]:
        test(
            name = "{}_{}_test".format(name, suffix),
            size = "small",
            message = message,
            target_under_test = target,
        )
        tests.append("{}_{}_test".format(name, suffix))
    native.test_suite(name = name, tests = tests)
