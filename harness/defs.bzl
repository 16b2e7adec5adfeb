"""Cells of the benchmark as build actions.

A cell is one (variant, task, profile, seed). `evaluation_cells` makes one
action for each chosen cell, so cells are cached, run in parallel, and run anew
when something they depend on has changed: a change to one variant is a change
to that variant's runner alone.
"""

load("@bazel_skylib//rules:common_settings.bzl", "BuildSettingInfo")

# Nobody should train unoptimised code, whatever the command line says. Where it
# says `opt` already, as .bazelrc does, this changes nothing, and the runners
# are the very files that a plain build makes.
def _optimised_impl(_settings, _attr):
    return {"//command_line_option:compilation_mode": "opt"}

_optimised = transition(
    implementation = _optimised_impl,
    inputs = [],
    outputs = ["//command_line_option:compilation_mode"],
)

def _given(flag):
    """The values of a string_list_flag; an empty flag holds one empty value."""
    return [value for value in flag[BuildSettingInfo].value if value]

def _chosen(what, flag, declared):
    """The names that a flag asks for, in declared order; all when it is empty."""
    wanted = _given(flag)
    for name in wanted:
        if name not in declared:
            fail("--{flag}: there is no {what} \"{name}\"; there are: {declared}".format(
                declared = ", ".join(declared),
                flag = flag.label,
                name = name,
                what = what,
            ))
    return [name for name in declared if not wanted or name in wanted]

def _chosen_seeds(flag):
    seeds = []
    for seed in _given(flag):
        if not seed.isdigit():
            fail("--{flag}: the seed \"{seed}\" is not a whole number >= 0".format(
                flag = flag.label,
                seed = seed,
            ))
        if int(seed) not in seeds:
            seeds.append(int(seed))
    if not seeds:
        fail("--{}: there must be a seed".format(flag.label))
    return seeds

def _chosen_settings(flag):
    settings = _given(flag)
    for setting in settings:
        if setting.find("=") < 1:
            fail("--{flag}: \"{setting}\" is not name=value".format(
                flag = flag.label,
                setting = setting,
            ))
    return settings

def _directory(profile, settings):
    """Where a profile's cells go. Other settings must not displace them."""
    if not settings:
        return profile
    text = "+".join(settings)
    if len(text) > 150:  # no file system takes a name of more than 255 bytes
        text = "{}...{}".format(text[:130], hash(text))
    return profile + "+" + "".join([
        c if c.isalnum() or c in "+-._" else "_"
        for c in text.elems()
    ])

def _cell_name(variant, task, seed):
    return "{}.{}.{}".format(task, variant, seed)

def _cell(ctx, runner, variant, task, profile, seed, settings):
    record = ctx.actions.declare_file("{}/{}/{}.record".format(
        ctx.label.name,
        _directory(profile, settings),
        _cell_name(variant, task, seed),
    ))
    arguments = ctx.actions.args()
    arguments.add("evaluate")
    arguments.add("--quiet")
    arguments.add(variant, format = "--variant=%s")
    arguments.add(task, format = "--task=%s")
    arguments.add(profile, format = "--profile=%s")
    arguments.add(seed, format = "--seed=%s")
    arguments.add_all(settings, format_each = "--set=%s")

    # Says which commit is built. Of all inputs it alone may change without
    # the action being run again.
    arguments.add(ctx.version_file, format = "--workspace_status=%s")
    arguments.add(record, format = "--out=%s")
    ctx.actions.run(
        outputs = [record],
        inputs = [ctx.version_file],
        executable = runner[DefaultInfo].files_to_run,
        arguments = [arguments],
        mnemonic = "MnemeCell",
        progress_message = "Training {} on {} ({}, seed {})".format(
            variant,
            task,
            "+".join([profile] + settings),
            seed,
        ),
    )
    return record

def _evaluation_cells_impl(ctx):
    runners = {variant: runner for runner, variant in ctx.attr.runners.items()}
    profile = ctx.attr.profile[BuildSettingInfo].value
    if not profile:
        fail("--{}: there must be a profile".format(ctx.attr.profile.label))
    settings = _chosen_settings(ctx.attr.settings)
    seeds = _chosen_seeds(ctx.attr.seeds)
    cells = {
        _cell_name(variant, task, seed): _cell(ctx, runners[variant], variant, task, profile, seed, settings)
        for task in _chosen("task", ctx.attr.chosen_tasks, ctx.attr.tasks)
        for variant in _chosen("variant", ctx.attr.chosen_variants, sorted(runners))
        for seed in seeds
    }
    return [
        DefaultInfo(files = depset(cells.values())),
        # A group for each cell: those that were built can be told apart from
        # what an earlier build left behind, even when others failed.
        OutputGroupInfo(**{name: depset([record]) for name, record in cells.items()}),
    ]

evaluation_cells = rule(
    implementation = _evaluation_cells_impl,
    doc = "Result records of the chosen cells: variants x tasks x seeds. A " +
          "variant or task that is not chosen is neither built nor run. Each " +
          "cell is also an output group of its own, TASK.VARIANT.SEED.",
    attrs = {
        "chosen_tasks": attr.label(
            doc = "string_list_flag; none is all of `tasks`.",
            mandatory = True,
            providers = [BuildSettingInfo],
        ),
        "chosen_variants": attr.label(
            doc = "string_list_flag; none is all of `runners`.",
            mandatory = True,
            providers = [BuildSettingInfo],
        ),
        "profile": attr.label(
            doc = "string_flag",
            mandatory = True,
            providers = [BuildSettingInfo],
        ),
        "runners": attr.label_keyed_string_dict(
            cfg = _optimised,
            doc = "Runner -> the variant it holds. A runner is called with " +
                  "`evaluate --quiet` and --variant, --task, --profile, --seed, any " +
                  "number of --set, --workspace_status and --out; it writes " +
                  "a ResultRecord to --out and uses one thread.",
            mandatory = True,
        ),
        "seeds": attr.label(
            doc = "string_list_flag of whole numbers",
            mandatory = True,
            providers = [BuildSettingInfo],
        ),
        "settings": attr.label(
            doc = "string_list_flag of name=value, each handed on as --set",
            mandatory = True,
            providers = [BuildSettingInfo],
        ),
        "tasks": attr.string_list(mandatory = True),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)

def _probe(ctx, prober, variant):
    record = ctx.actions.declare_file("{}/{}.probe".format(ctx.label.name, variant))
    arguments = ctx.actions.args()
    arguments.add("probe")
    arguments.add(variant, format = "--variant=%s")
    arguments.add(ctx.version_file, format = "--workspace_status=%s")
    arguments.add(record, format = "--out=%s")
    ctx.actions.run(
        outputs = [record],
        inputs = [ctx.version_file],
        executable = prober[DefaultInfo].files_to_run,
        arguments = [arguments],
        mnemonic = "MnemeProbe",
        progress_message = "Probing " + variant,
    )
    return record

def _probe_records_impl(ctx):
    probers = {variant: prober for prober, variant in ctx.attr.probers.items()}
    records = {
        variant: _probe(ctx, probers[variant], variant)
        for variant in _chosen("variant", ctx.attr.chosen_variants, sorted(probers))
    }
    return [
        DefaultInfo(files = depset(records.values())),
        OutputGroupInfo(**{
            "probe." + variant: depset([record])
            for variant, record in records.items()
        }),
    ]

probe_records = rule(
    implementation = _probe_records_impl,
    doc = "Probe records of the chosen variants, VARIANT.probe. A variant that " +
          "is not chosen is neither built nor run. Each record is also an " +
          "output group of its own, probe.VARIANT.",
    attrs = {
        "chosen_variants": attr.label(
            doc = "string_list_flag; none is all of `probers`.",
            mandatory = True,
            providers = [BuildSettingInfo],
        ),
        "probers": attr.label_keyed_string_dict(
            cfg = _optimised,
            doc = "Prober -> the variant it holds. A prober is called with " +
                  "`probe` and --variant, --workspace_status and --out; it " +
                  "writes a ProbeRecord to --out and uses one thread.",
            mandatory = True,
        ),
        "_allowlist_function_transition": attr.label(
            default = "@bazel_tools//tools/allowlists/function_transition_allowlist",
        ),
    },
)
