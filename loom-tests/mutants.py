"""Finds what there is to weaken in src/: see `mutate`."""

import collections
import hashlib
import pathlib
import re

REPO = pathlib.Path(__file__).resolve().parent.parent

# The facade is what the models are made of, not what they are about.
LEFT_OUT = {"src/sync.rs"}

WEAKER = {
    "Acquire": ["Relaxed"],
    "Release": ["Relaxed"],
    "AcqRel": ["Acquire", "Release"],
}
SEQ_CST = {"load": ["Acquire"], "store": ["Release"]}
PATH = "crate::sync::Ordering::"
ORDERING = re.compile(r"(?:\b(?:crate::sync::)?Ordering::)?\b(Acquire|Release|AcqRel|SeqCst)\b")
BUMPS = [(re.compile(r"\((TAG_ONE)\b"), "0"), (re.compile(r"\b(incarnation \+ 1)\b"), "incarnation")]

# `text` goes to the columns `start` to `end`. `mark` are the columns where something wrong can
# be put to see whether the line is compiled at all.
Site = collections.namedtuple("Site", "hash file line function change start end text mark")


def code_of(line):
    """The line without its comment, and strings made blank."""
    line = re.sub(r'"(?:\\.|[^"\\])*"', lambda s: '"' + " " * (len(s[0]) - 2) + '"', line)
    return line.split("//")[0]


def lines_outside_tests(text):
    """Number, code and function of each line that is not of a test."""
    owner = function = ""
    skip_until = None
    pending = False
    for number, line in enumerate(text.splitlines()):
        code = code_of(line)
        if skip_until is not None:
            if line.rstrip() == skip_until:
                skip_until = None
            continue
        if re.match(r"\s*#\[cfg\((test|all\(test)", code):
            pending = True
            continue
        if pending and not code.strip().startswith("#["):
            pending = False
            if code.rstrip().endswith("{"):
                skip_until = code[: len(code) - len(code.lstrip())] + "}"
            continue
        # An enum may have variants of these names.
        if found := re.match(r"(?:unsafe )?impl(?:<[^{]*?>)? (?:.* for )?(?:\w+::)*(\w+)", code):
            owner = found[1]
        elif re.match(r"\}", code):
            owner = ""
        if found := re.search(r"\bfn (\w+)", code):
            function = f"{owner}::{found[1]}" if owner and code[:1] == " " else found[1]
        yield number, code, function


def call_of(codes, number, start):
    """The name of the call that the ordering at this place is an argument of."""
    depth, at = 0, codes[number][:start]
    for _ in range(12):
        for place in range(len(at) - 1, -1, -1):
            if at[place] in ")]}":
                depth += 1
            elif at[place] in "([{":
                if depth == 0:
                    name = re.search(r"(\w+)(?:::<.*>)?$", at[:place])
                    return name[1] if name and at[place] == "(" else None
                depth -= 1
        number -= 1
        if number < 0:
            return None
        at = codes[number]
    return None


def sites_of(file, text):
    """All mutants of a file."""
    if "Ordering" not in text:
        return
    codes = [code_of(line) for line in text.splitlines()]
    imported = re.search(r"Ordering::\{|Ordering::(?:Relaxed|Acquire|Release|AcqRel|SeqCst)[;,}]", text)
    seen = collections.Counter()
    for number, code, function in lines_outside_tests(text):

        def site(found, change, text, mark=None):
            key = (file, function, code.strip(), found.start(), change)
            seen[key] += 1
            stamp = hashlib.sha1(repr((*key, seen[key])).encode()).hexdigest()[:12]
            mark = (mark or found).span()
            return Site(stamp, file, number + 1, function, change, *found.span(), text, mark)

        for found in ORDERING.finditer(code):
            name, prefixed = found[1], "Ordering::" in found[0]
            call = call_of(codes, number, found.start())
            if not call or (not prefixed and not imported) or call == "Some":
                continue
            # Not a type or a variant of ours.
            if not prefixed and code[found.end() : found.end() + 1] not in (",", ")"):
                continue
            if "fence" in call:
                whole = re.search(r"(?:\w+::)*" + call + r"\(.*?\);?", code)
                weaker = {"SeqCst": ["AcqRel"], "AcqRel": ["Acquire", "Release"]}.get(name, [])
                for to in weaker:
                    yield site(found, f"{call}: {name} -> {to}", PATH + to)
                yield site(whole, f"{call}: {name}, left out", "", found)
                continue
            weaker = SEQ_CST.get(call, ["AcqRel"]) if name == "SeqCst" else WEAKER[name]
            for to in weaker:
                yield site(found, f"{call}: {name} -> {to}", PATH + to)
        for pattern, instead in BUMPS:
            for found in pattern.finditer(code):
                start = found.start(1)
                call = call_of(codes, number, start + 1) or call_of(codes, number, start)
                bump = re.compile(re.escape(found[1])).search(code, start)
                yield site(bump, f"{call}: {found[1]} -> {instead}", instead)


def all_sites():
    sites = []
    for path in sorted((REPO / "src").rglob("*.rs")):
        file = str(path.relative_to(REPO))
        if file not in LEFT_OUT and path.name != "tests.rs":
            sites += sites_of(file, path.read_text())
    return sites
