"""Text files as C++ functions."""

# A raw string literal may hold anything but its own end.
_COMMAND = """
set -eu
out=$1; shift
{
  echo '#include <string>'
  echo 'namespace mneme {'
  while [ $# -gt 0 ]; do
    if grep -qF ')embedded"' "$2"; then
      echo "$2 contains the end of a raw string literal" >&2
      exit 1
    fi
    echo "const std::string& $1() {"
    printf 'static const auto& text = *new std::string(R"embedded('
    cat "$2"
    echo ')embedded");'
    echo 'return text;'
    echo '}'
    shift 2
  done
  echo '}  // namespace mneme'
} > "$out"
"""

def _embedded_text_impl(ctx):
    arguments = ctx.actions.args()
    arguments.add(ctx.outputs.out)
    for target, function in ctx.attr.files.items():
        arguments.add(function)
        arguments.add_all(target.files)
    ctx.actions.run_shell(
        command = _COMMAND,
        arguments = [arguments],
        inputs = ctx.files.files,
        outputs = [ctx.outputs.out],
        mnemonic = "EmbedText",
        progress_message = "Embedding text in " + ctx.outputs.out.short_path,
    )

embedded_text = rule(
    implementation = _embedded_text_impl,
    doc = "A C++ source file of functions `const std::string& Name()`, each " +
          "of which returns the contents of one file.",
    attrs = {
        "files": attr.label_keyed_string_dict(
            allow_files = True,
            doc = "File -> name of the function.",
            mandatory = True,
        ),
        "out": attr.output(mandatory = True),
    },
)
