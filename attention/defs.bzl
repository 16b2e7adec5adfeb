"""How a variant is declared."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

def attention_variant(name, srcs = None, hdrs = [], deps = [], approximates = [], **kwargs):
    """Declares a mechanism: its library, contract test and runner.

    Makes, for name = "foo":
      foo                 the library, from foo.cc; linking it registers "foo".
      foo_contract_test   proves what every variant must (attention/contract).
      foo_runner          trains and tests this variant alone, so that a change
                          to one variant recomputes its cells only.
      foo_prober          probes it without training, for the same reason alone.

    Works the same from another workspace that depends on this one.

    Args:
      name: the variant, as it registers itself.
      srcs: sources; [name + ".cc"] by default.
      hdrs: headers.
      deps: libraries it is made of, beyond the contract itself.
      approximates: variants that its descriptor's approximations name.
      **kwargs: passed to the library.
    """
    cc_library(
        name = name,
        srcs = srcs if srcs != None else [name + ".cc"],
        hdrs = hdrs,
        visibility = ["//visibility:public"],
        deps = deps + [Label("//attention:variant")],
        # Nothing refers to a plugin; it refers to the registry.
        alwayslink = True,
        **kwargs
    )
    cc_test(
        name = name + "_contract_test",
        size = "small",
        deps = [
            ":" + name,
            Label("//attention/contract"),
        ],
    )
    cc_binary(
        name = name + "_runner",
        visibility = ["//visibility:public"],
        deps = [
            ":" + name,
            Label("//harness:runner_main"),
        ],
    )
    cc_binary(
        name = name + "_prober",
        visibility = ["//visibility:public"],
        deps = approximates + [
            ":" + name,
            Label("//harness:prober_main"),
        ],
    )
