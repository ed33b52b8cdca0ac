"""Shell completion of the command line: options, keys, values and flags, from the option files alone, nothing composed.

`eval "$(python run.py -sc install=bash)"` (or zsh) switches it on for `python run.py` in this shell.
"""

import os
from collections.abc import Iterator, Sequence

from smalldata_vit.completion.words import keys, values
from smalldata_vit.words import ConfigError

FLAGS = ("--cfg", "--dry-run", "--explain", "--help", "--info", "--multirun", "--package", "--resolve", "-m", "-sc")
ASK_FOR_A_KEY = ("--explain", "--package", "-p")

BASH = """\
_smalldata_vit_complete() {
    local line="$COMP_LINE" first second rest current head=""
    first="${line%% *}"; rest="${line#* }"; second="${rest%% *}"
    case "${first##*/}" in
        python*) { [ -f "$second" ] && grep -qs smalldata_vit "$second"; } || return 0; set -- "$first" "$second" ;;
        *) set -- "$first" ;;
    esac
    current="${line##* }"
    case "$COMP_WORDBREAKS" in *=*) case "$current" in *=*) head="${current%=*}=" ;; esac ;; esac
    COMPREPLY=( $(COMP_LINE="$line" COMP_POINT="$COMP_POINT" COMP_HEAD="$head" "$@" -sc query=bash 2>/dev/null) )
}
complete -o nospace -o default -F _smalldata_vit_complete python python3 run.py
"""
SCRIPTS = {"bash": BASH, "zsh": f"autoload -U +X bashcompinit && bashcompinit\n{BASH}"}
REMOVED = "complete -r python python3 run.py 2>/dev/null; unset -f _smalldata_vit_complete"


def shell_completion(words: Sequence[str]) -> int:
    """Answer `-sc install=<shell>`, `uninstall=<shell>` or `query=<shell>`; returns the exit status."""
    asked = {key: value for key, _, value in (word.partition("=") for word in words)}
    what = next((key for key in ("install", "uninstall", "query") if key in asked), None)
    if what is None or asked[what] not in SCRIPTS:
        raise ConfigError(f"-sc takes install=, uninstall= or query= with one of {', '.join(SCRIPTS)}")
    if what != "query":
        print(SCRIPTS[asked[what]] if what == "install" else REMOVED)
        return 0
    line, head = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_HEAD", "")
    point = os.environ.get("COMP_POINT", "")
    found = candidates(line[: int(point)] if point.isdigit() else line)
    print("\n".join(sorted({one.removeprefix(head) for one in found})))
    return 0


def candidates(line: str) -> list[str]:
    """The words that the last word of a command line may become; an unfinished line is no error."""
    typed = line.split()
    script = next((place for place, word in enumerate(typed) if word.endswith(".py")), 0)
    words, word = typed[script + 1 :], ""
    if words and not line.endswith(" "):
        word = words.pop()
    if word.startswith("-"):
        found: Iterator[str] = iter(FLAGS)
    elif words and words[-1] in ("--cfg", "-c"):
        found = iter(("job", "hydra", "all"))
    elif "=" in word:
        found = values(word, words)
    else:
        asked = bool(words) and words[-1] in ASK_FOR_A_KEY
        found = keys(word, words, asked)
    return [one for one in found if one.startswith(word)]
