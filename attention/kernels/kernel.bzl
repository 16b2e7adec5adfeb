"""Declares a SIMD kernel: its library and the test beside it."""

load("@rules_cc//cc:defs.bzl", "cc_library", "cc_test")

def kernel(
        name,
        deps = [],
        textual_hdrs = [],
        more_srcs = [],
        test_size = "small",
        test_deps = []):
    """A kernel library NAME from NAME.h and NAME.cc, with its test NAME_test.cc.

    The source is compiled once for each Highway target (foreach_target.h), so
    it is its own textual header.

    Args:
      name: the kernel, and the stem of its files.
      deps: other kernels it calls.
      textual_hdrs: its -inl.h files, which other kernels may include to inline
        its building blocks into their own SIMD targets.
      more_srcs: sources beside NAME.cc, and headers that only they share.
      test_size: size of NAME_test.
      test_deps: what NAME_test needs beside its kernel and those it calls.
    """
    cc_library(
        name = name,
        srcs = [name + ".cc"] + more_srcs,
        hdrs = [name + ".h"],
        textual_hdrs = textual_hdrs + [name + ".cc"] + [
            source
            for source in more_srcs
            if source.endswith(".cc")
        ],
        visibility = ["//visibility:public"],
        deps = [":matrix", "@com_google_highway//:hwy"] + deps,
    )
    cc_test(
        name = name + "_test",
        size = test_size,
        srcs = [name + "_test.cc"],
        deps = [
            ":" + name,
            ":kernel_testing",
            ":matrix",
            "@com_google_googletest//:gtest_main",
        ] + deps + test_deps,
    )
