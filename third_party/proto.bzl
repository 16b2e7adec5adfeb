"""C++ from .proto files, by protoc directly.

The native cc_proto_library would need protobuf's own build. This rule asks
for no more than a protoc and a library:

    mneme_cc_proto_library(
        name = "result_cc_proto",
        srcs = ["result.proto"],
    )

gives `#include "harness/result.pb.h"` to what depends on it. Files import one
another by their path from the workspace root: `import "harness/result.proto";`.
"""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

_ProtoInfo = provider(
    doc = "Proto files that an import may name.",
    fields = {"sources": "depset of .proto files"},
)

# Whoever includes generated code should see no warnings about it. It is found
# by -iquote like our own headers, so it must say of itself what -isystem
# would have said.
_GENERATE = """
protoc=$1 source=$2 header=$3 out=$4
shift 4
"$protoc" "$@" --cpp_out="$out" "$source"
sed -i '1i #pragma GCC system_header' "$header"
"""

def _generate(ctx, source, imports):
    stem = source.basename[:-len(".proto")]
    header = ctx.actions.declare_file(stem + ".pb.h")
    code = ctx.actions.declare_file(stem + ".pb.cc")

    # Imports are relative to the root of the workspace that a file is in.
    roots = {file.owner.workspace_root or ".": None for file in imports.to_list()}
    out = ctx.bin_dir.path + "/" + (ctx.label.workspace_root or ".")
    ctx.actions.run_shell(
        command = "set -e" + _GENERATE,
        arguments = [ctx.executable._protoc.path, source.path, header.path, out] +
                    ["--proto_path=" + root for root in roots],
        inputs = imports,
        tools = [ctx.executable._protoc],
        outputs = [header, code],
        mnemonic = "MnemeProtoc",
        progress_message = "Generating C++ from " + source.short_path,
    )
    return header, code

def _mneme_cc_proto_library_impl(ctx):
    sources = depset(
        ctx.files.srcs,
        transitive = [dep[_ProtoInfo].sources for dep in ctx.attr.deps],
    )
    generated = [_generate(ctx, source, sources) for source in ctx.files.srcs]
    headers = [header for header, _ in generated]

    toolchain = find_cpp_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    needed = [dep[CcInfo] for dep in ctx.attr.deps + [ctx.attr._protobuf]]
    compilation, objects = cc_common.compile(
        name = ctx.label.name,
        actions = ctx.actions,
        cc_toolchain = toolchain,
        feature_configuration = features,
        srcs = [code for _, code in generated],
        public_hdrs = headers,
        compilation_contexts = [info.compilation_context for info in needed],
        user_compile_flags = ["-w"],
    )
    linking, _ = cc_common.create_linking_context_from_compilation_outputs(
        name = ctx.label.name,
        actions = ctx.actions,
        cc_toolchain = toolchain,
        feature_configuration = features,
        compilation_outputs = objects,
        linking_contexts = [info.linking_context for info in needed],
        disallow_dynamic_library = True,
    )
    return [
        DefaultInfo(files = depset(headers)),
        CcInfo(compilation_context = compilation, linking_context = linking),
        _ProtoInfo(sources = sources),
    ]

mneme_cc_proto_library = rule(
    implementation = _mneme_cc_proto_library_impl,
    doc = "A C++ library of the messages in `srcs`.",
    attrs = {
        "deps": attr.label_list(
            doc = "Other mneme_cc_proto_library targets that srcs import.",
            providers = [CcInfo, _ProtoInfo],
        ),
        "srcs": attr.label_list(
            allow_files = [".proto"],
            mandatory = True,
        ),
        "_cc_toolchain": attr.label(
            default = "@bazel_tools//tools/cpp:current_cc_toolchain",
        ),
        "_protobuf": attr.label(default = "@com_google_protobuf//:protobuf"),
        "_protoc": attr.label(
            allow_single_file = True,
            cfg = "exec",
            default = "@com_google_protobuf//:protoc",
            executable = True,
        ),
    },
    fragments = ["cpp"],
    provides = [CcInfo],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
