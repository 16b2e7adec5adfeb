"""Tests of probe_records (harness/defs.bzl): which actions it makes."""

load("@bazel_skylib//lib:unittest.bzl", "analysistest", "asserts")

_VARIANTS = str(Label("//reports/cells_test:variants"))

def _probes(env):
    return [
        action
        for action in analysistest.target_actions(env)
        if action.mnemonic == "MnemeProbe"
    ]

def _all_impl(ctx):
    env = analysistest.begin(ctx)
    records = {
        action.outputs.to_list()[0].basename: action
        for action in _probes(env)
    }
    asserts.equals(env, ["hare.probe", "tortoise.probe"], sorted(records))
    hare = records["hare.probe"]
    for argument in [
        "probe",
        "--variant=hare",
        "--out=" + hare.outputs.to_list()[0].path,
    ]:
        asserts.true(env, argument in hare.argv, argument)

    # Nobody measures unoptimised code, even when that is what is built.
    asserts.true(env, "-opt" in hare.argv[0], hare.argv[0])

    groups = analysistest.target_under_test(env)[OutputGroupInfo]
    files = getattr(groups, "probe.hare").to_list()
    asserts.equals(env, ["hare.probe"], [file.basename for file in files])
    return analysistest.end(env)

_all_test = analysistest.make(_all_impl, config_settings = {
    "//command_line_option:compilation_mode": "dbg",
})

def _chosen_impl(ctx):
    env = analysistest.begin(ctx)
    probes = _probes(env)
    asserts.equals(env, 1, len(probes))

    # Only the prober of the chosen variant is needed, so only it is built.
    probers = [
        file.basename
        for file in probes[0].inputs.to_list()
        if file.basename.endswith("_runner")
    ]
    asserts.equals(env, ["tortoise_runner"], probers)
    return analysistest.end(env)

_chosen_test = analysistest.make(_chosen_impl, config_settings = {
    _VARIANTS: ["tortoise"],
})

def probes_test_suite(name, target):
    """Declares all tests, of a probe_records target.

    Args:
      name: of the suite.
      target: has the variants hare and tortoise.
    """
    tests = []
    for test, suffix in [(_all_test, "all"), (_chosen_test, "chosen")]:
        test(
            name = "{}_{}_test".format(name, suffix),
            size = "small",
            target_under_test = target,
        )
        tests.append("{}_{}_test".format(name, suffix))
    native.test_suite(name = name, tests = tests)
