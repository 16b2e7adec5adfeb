"""What Mneme depends on. Also for workspaces that use Mneme as a library."""

load(":absl_aliases.bzl", "ABSL_ALIASES")
load(
    ":debian.bzl",
    "debian_repository",
    "debian_rules_cc",
    "debian_rules_repository",
    "stub_repository",
)

# The files of fortunes that tasks/text_corpus.cc reads by default.
_FORTUNES = [
    "art",
    "computers",
    "definitions",
    "education",
    "humorists",
    "law",
    "literature",
    "miscellaneous",
    "people",
    "science",
    "songs-poems",
    "wisdom",
    "work",
]

def _maybe(rule, name, **kwargs):
    # A workspace around this one may have chosen its own version already.
    if not native.existing_rule(name):
        rule(name = name, **kwargs)

def _libraries():
    lib = "/usr/lib/{multiarch}/"
    _maybe(
        debian_repository,
        name = "com_google_absl",
        alias_to = "absl",
        aliases = ABSL_ALIASES,
        build_file = Label("//third_party:absl.BUILD"),
        files = {
            "/usr/include/absl": "libabsl-dev",
            lib + "libabsl_*.a": "libabsl-dev",
        },
    )
    _maybe(
        debian_repository,
        name = "com_google_highway",
        build_file = Label("//third_party:highway.BUILD"),
        files = {
            "/usr/include/hwy": "libhwy-dev",
            lib + "libhwy.so": "libhwy-dev",
            lib + "libhwy_test.so": "libhwy-dev",
        },
    )
    _maybe(
        debian_repository,
        name = "com_google_protobuf",
        build_file = Label("//third_party:protobuf.BUILD"),
        files = {
            "/usr/bin/protoc": "protobuf-compiler",
            "/usr/include/google/protobuf": "libprotobuf-dev",
            lib + "libprotobuf.a": "libprotobuf-dev",
        },
    )
    _maybe(
        debian_repository,
        name = "com_github_google_benchmark",
        build_file = Label("//third_party:benchmark.BUILD"),
        files = {
            "/usr/include/benchmark": "libbenchmark-dev",
            lib + "libbenchmark.so": "libbenchmark-dev",
            lib + "libbenchmark_main.a": "libbenchmark-dev",
        },
    )
    _maybe(
        debian_repository,
        name = "com_google_googletest",
        build_file = Label("//third_party:googletest.BUILD"),
        files = {
            "/usr/include/gmock": "libgmock-dev",
            "/usr/include/gtest": "libgtest-dev",
            lib + "libgmock.a": "libgmock-dev",
            lib + "libgmock_main.a": "libgmock-dev",
            lib + "libgtest.a": "libgtest-dev",
        },
    )
    _maybe(
        debian_repository,
        name = "nlohmann_json",
        build_file = Label("//third_party:nlohmann_json.BUILD"),
        files = {"/usr/include/nlohmann": "nlohmann-json3-dev"},
    )
    _maybe(
        debian_repository,
        name = "mustache",
        build_file = Label("//third_party:mustache.BUILD"),
        files = {"/usr/include/kainjow": "libkainjow-mustache-dev"},
    )
    _maybe(
        debian_repository,
        name = "cli11",
        build_file = Label("//third_party:cli11.BUILD"),
        files = {"/usr/include/CLI": "libcli11-dev"},
    )
    _maybe(
        debian_repository,
        name = "boost",
        build_file = Label("//third_party:boost.BUILD"),
        files = {"/usr/include/boost/version.hpp": "libboost-math-dev"},
    )
    _maybe(
        debian_repository,
        name = "kissfft",
        build_file = Label("//third_party:kissfft.BUILD"),
        files = {"/usr/include/kissfft/kissfft.hh": "libkissfft-dev"},
    )
    _maybe(
        debian_repository,
        name = "fortunes",
        build_file = Label("//third_party:fortunes.BUILD"),
        files = {
            "/usr/share/games/fortunes/" + name: "fortunes"
            for name in _FORTUNES
        },
    )
    _maybe(
        debian_repository,
        name = "vega",
        build_file = Label("//third_party:vega.BUILD"),
        files = {"/usr/share/javascript/vega/*.min.js": "libjs-vega"},
    )

def _peers():
    """What Mneme is compared with in //harness/throughput/peers.

    Their packages are for continuous integration alone (packages.txt), and
    whatever uses them is tagged manual: a repository that no target on the
    command line needs is not looked at, so that nobody has to install them.
    """
    lib = "/usr/lib/{multiarch}/"
    _maybe(
        debian_repository,
        name = "onednn",
        build_file = Label("//third_party:onednn.BUILD"),
        files = {
            "/usr/include/oneapi/dnnl": "libdnnl-dev",
            lib + "libdnnl.so": "libdnnl-dev",
        },
    )
    _maybe(
        debian_repository,
        name = "openblas",
        build_file = Label("//third_party:openblas.BUILD"),
        files = {
            # Of the three builds that Debian has, what libopenblas-dev brings.
            "/usr/include/{multiarch}/openblas-pthread": "libopenblas-dev",
            lib + "openblas-pthread/libopenblas.so": "libopenblas-dev",
        },
    )

def _bazel_rules():
    # Bazel's own tools load these, and would otherwise download them.
    _maybe(debian_rules_cc, name = "rules_cc")
    _maybe(
        debian_rules_repository,
        name = "rules_java",
        package = "bazel-rules-java",
        path = "/usr/share/bazel/rules/java",
    )
    _maybe(
        debian_rules_repository,
        name = "rules_proto",
        package = "bazel-rules-proto",
        path = "/usr/share/bazel/rules/proto",
    )
    _maybe(
        debian_rules_repository,
        name = "bazel_skylib",
        package = "bazel-skylib",
        path = "/usr/share/bazel/tools/skylib",
    )
    _maybe(
        debian_rules_repository,
        name = "platforms",
        package = "bazel-platforms",
        path = "/usr/share/bazel/tools/platforms",
    )

    # Named by each test rule, used by `bazel coverage` alone.
    _maybe(
        stub_repository,
        name = "remote_coverage_tools",
        filegroups = [
            "coverage_report_generator",
            "lcov_merger",
        ],
    )

def mneme_repositories():
    """Declares each repository that is not declared already."""
    _bazel_rules()
    _libraries()
    _peers()
