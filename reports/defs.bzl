"""A leaderboard: the cells it can train, the probes, and the program that shows them."""

load("@bazel_skylib//rules:write_file.bzl", "write_file")
load("@rules_cc//cc:defs.bzl", "cc_binary")
load("//attention:variants.bzl", "VARIANTS")
load("//harness:defs.bzl", "evaluation_cells", "probe_records")
load("//tasks:tasks.bzl", "HEADLINE_TASKS", "TASKS")

# Labels are resolved where this file is, so that the macro serves other
# workspaces too.
_MNEME_VARIANTS = [str(Label(variant)) for variant in VARIANTS]

_TASK_NAMES = sorted([task.split("/")[-1] for task in TASKS])

_HEADLINE_NAMES = [task.split("/")[-1] for task in HEADLINE_TASKS]

# The package of the flags that choose cells, as a command line spells it.
_FLAGS = str(Label("//reports:seeds")).split(":")[0]

def _full_label(label):
    """A label in the calling package as events spell it: //package:name."""
    if label.startswith("@"):
        return label if ":" in label else label + ":" + label.split("/")[-1]
    repository = native.repository_name()
    if label.startswith("//"):
        package, _, name = label.partition(":")
    else:
        package = "//" + native.package_name()
        name = label[1:] if label.startswith(":") else label
    return "{}{}:{}".format(
        "" if repository == "@" else repository,
        package,
        name or package.split("/")[-1],
    )

def _quoted(texts):
    return ", ".join(["\"%s\"" % text for text in texts])

def leaderboard(name, variants = [], **kwargs):
    """A leaderboard of Mneme's variants and others.

    Makes
      - NAME, the leaderboard end to end: bazel run //PACKAGE:NAME -- --help
      - NAME_cells, the result records that it has Bazel make.
      - NAME_probes, the variants' probe records.

    Works the same from another workspace that depends on this one.

    Args:
      name: of the program.
      variants: attention_variant() targets to rank beside Mneme's own.
      **kwargs: passed to the program.
    """
    libraries = [_full_label(label) for label in _MNEME_VARIANTS + variants]
    by_name = {}
    for library in libraries:
        variant = library.split(":")[-1]
        if variant in by_name:
            fail("{} and {} have the same name".format(by_name[variant], library))
        by_name[variant] = library
    cells = _full_label(":" + name + "_cells")
    evaluation_cells(
        name = name + "_cells",
        chosen_tasks = Label("//reports:tasks"),
        chosen_variants = Label("//reports:variants"),
        profile = Label("//reports:profile"),
        runners = {
            library + "_runner": variant
            for variant, library in by_name.items()
        },
        seeds = Label("//reports:seeds"),
        settings = Label("//reports:settings"),
        # Training is asked for by name, never a part of //...
        tags = ["manual"],
        tasks = _TASK_NAMES,
    )
    probe_records(
        name = name + "_probes",
        chosen_variants = Label("//reports:variants"),
        probers = {
            library + "_prober": variant
            for variant, library in by_name.items()
        },
        tags = ["manual"],
    )
    write_file(
        name = name + "_catalog",
        out = name + "_catalog.cc",
        content = [
            "#include \"reports/catalog.h\"",
            "namespace mneme {",
            "Catalog DeclaredCatalog() {",
            "Catalog catalog;",
            "catalog.command = \"{} run {}\";".format(
                "bazel" if _FLAGS.startswith("@") else "./bazelw",
                _full_label(":" + name),
            ),
            "catalog.cells = \"%s\";" % cells,
            "catalog.probes = \"%s\";" % _full_label(":" + name + "_probes"),
            "catalog.flags = \"%s\";" % _FLAGS,
            "catalog.variants = {",
        ] + [
            "{%s}," % _quoted([variant, by_name[variant]])
            for variant in sorted(by_name)
        ] + [
            "};",
            "catalog.tasks = {%s};" % _quoted(_TASK_NAMES),
            "catalog.headline = {%s};" % _quoted(_HEADLINE_NAMES),
            "return catalog;",
            "}",
            "}  // namespace mneme",
            "",
        ],
    )
    cc_binary(
        name = name,
        srcs = [name + "_catalog.cc"],
        deps = [
            Label("//reports:catalog"),
            Label("//reports:leaderboard_main"),
        ],
        **kwargs
    )
