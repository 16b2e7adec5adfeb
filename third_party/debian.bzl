"""Repository rules that show what a Debian package installed to Bazel."""

# Debian puts libraries under /usr/lib/<multiarch triplet>.
_MULTIARCH = "{multiarch}"

def _multiarch(rctx):
    machine = rctx.execute(["uname", "-m"]).stdout.strip()
    return machine + "-linux-gnu"

def _missing(rctx, path, package):
    fail(("@{repo} needs the Debian package {package} ({path} is missing): " +
          "apt-get install {package}, as ./bazelw does for what " +
          "third_party/packages.txt has without [ci]").format(
        repo = rctx.name,
        package = package,
        path = path,
    ))

def _require(rctx, path, package):
    found = rctx.path(path)
    if not found.exists:
        _missing(rctx, path, package)
    return found

def _expand(rctx, pattern, package):
    """Paths that a pattern with at most one *, in its last part, stands for."""
    directory, _, last = pattern.rpartition("/")
    if "*" not in last:
        return [_require(rctx, pattern, package)]
    prefix, _, suffix = last.partition("*")
    found = [
        entry
        for entry in _require(rctx, directory, package).readdir()
        if entry.basename.startswith(prefix) and
           entry.basename.endswith(suffix)
    ]
    if not found:
        _missing(rctx, pattern, package)
    return found

def _link_name(path, multiarch):
    """/usr/include/a/b.h -> include/a/b.h, /usr/lib/x/b.a -> lib/b.a, else b.

    A folder of this machine's kind is left out: /usr/include/x/a -> include/a.
    """
    if path.startswith("/usr/include/"):
        return path.replace("/usr/", "", 1).replace(multiarch + "/", "", 1)
    basename = path.rpartition("/")[2]
    return "lib/" + basename if path.startswith("/usr/lib/") else basename

def _debian_repository_impl(rctx):
    multiarch = _multiarch(rctx)
    for pattern, package in rctx.attr.files.items():
        pattern = pattern.replace(_MULTIARCH, multiarch)
        for path in _expand(rctx, pattern, package):
            rctx.symlink(path, _link_name(str(path), multiarch))
    rctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % rctx.name)
    rctx.symlink(rctx.attr.build_file, "BUILD.bazel")
    for directory, targets in rctx.attr.aliases.items():
        build = ["package(default_visibility = [\"//visibility:public\"])"]
        for target in targets:
            build.append("alias(name = \"%s\", actual = \"//:%s\")" %
                         (target, rctx.attr.alias_to))
        rctx.file(directory + "/BUILD.bazel", "\n".join(build) + "\n")

debian_repository = repository_rule(
    implementation = _debian_repository_impl,
    doc = "Links installed files or directories into a repository, after " +
          "checking that each is there.",
    # Looked at afresh by each Bazel server: an upgraded package is noticed.
    local = True,
    attrs = {
        "alias_to": attr.string(doc = "Target of the root package that the aliases stand for."),
        "aliases": attr.string_list_dict(doc = "Package -> names of aliases."),
        "build_file": attr.label(mandatory = True),
        "files": attr.string_dict(
            mandatory = True,
            doc = "Absolute path -> package that installs it. {multiarch} " +
                  "stands for the triplet; the last part may hold one *.",
        ),
    },
)

def _debian_rules_repository_impl(rctx):
    root = _require(rctx, rctx.attr.path, rctx.attr.package)
    for entry in root.readdir():
        rctx.symlink(entry, entry.basename)

debian_rules_repository = repository_rule(
    implementation = _debian_rules_repository_impl,
    doc = "A local_repository that names the package when it is missing.",
    local = True,
    attrs = {
        "package": attr.string(mandatory = True),
        "path": attr.string(mandatory = True),
    },
)

_RULES_CC = "/usr/share/bazel/rules/cc"

def _debian_rules_cc_impl(rctx):
    root = _require(rctx, _RULES_CC, "bazel-rules-cc")
    rctx.file("WORKSPACE", "workspace(name = \"rules_cc\")\n")
    rctx.file("BUILD.bazel", "")
    for entry in root.get_child("cc").readdir():
        if entry.basename != "private":
            rctx.symlink(entry, "cc/" + entry.basename)
    private = root.get_child("cc").get_child("private")
    rctx.symlink(private.get_child("toolchain"), "cc/private/toolchain")

    # The packaged rules are newer than the packaged Bazel, which has no
    # use_cpp_toolchain; in it that function returns a list of this one type.
    for entry in private.get_child("rules_impl").readdir():
        rctx.template(
            "cc/private/rules_impl/" + entry.basename,
            entry,
            {
                ", \"use_cpp_toolchain\")": ")",
                "use_cpp_toolchain()": "[\"@bazel_tools//tools/cpp:toolchain_type\"]",
            },
            executable = False,
        )

debian_rules_cc = repository_rule(
    implementation = _debian_rules_cc_impl,
    doc = "rules_cc from its package, made to load in Bazel 4.2.",
    local = True,
)

def _stub_repository_impl(rctx):
    rctx.file("WORKSPACE", "workspace(name = \"%s\")\n" % rctx.name)
    build = ["package(default_visibility = [\"//visibility:public\"])"]
    for name in rctx.attr.filegroups:
        build.append("filegroup(name = \"%s\")" % name)
    rctx.file("BUILD.bazel", "\n".join(build) + "\n")

stub_repository = repository_rule(
    implementation = _stub_repository_impl,
    doc = "Empty filegroups for a repository that is named but not used.",
    attrs = {"filegroups": attr.string_list(mandatory = True)},
)
