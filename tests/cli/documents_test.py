"""What the documents name is there: files, commands, flags, keys of a run file."""
import re
import unittest

from program import PROGRAM, ROOT, ProgramTest

DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("[a-z]*/*.md")])
LINK = re.compile(r"\]\(([^)#:]+)\)")
PLACE = re.compile(r"\b((?:scripts|configs|tests)/[\w./-]*\w\.(?:sh|py|yaml|md|cpp|json|jsonl|env))\b")
# A command and its flags, up to the end of the line, of the code span, or of a continued line.
COMMAND = re.compile(r"\baerie (prepare|resample|dump|train|report|export|generate|bench|serve|info)\b((?:[^`\n\\]|\\\n)*)")
FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)")
SECTIONS = "target|draft|data|train|optim|eval|hidden_states|decode|output"
KEY = re.compile(rf"`(?:--set )?((?:{SECTIONS})\.[a-z_]{{2,}})[:`= ]")


class Documents(ProgramTest):
    def missing(self, document, names, known, kind):
        for name in sorted(set(names)):
            self.assertIn(name, known, f"{document.relative_to(ROOT)} names the {kind} {name}, which is not there")

    def test_links_lead_to_files(self):
        found = 0
        for document in DOCUMENTS:
            for target in LINK.findall(document.read_text()):
                self.assertTrue((document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}")
                found += 1
        self.assertGreater(found, 5)

    def test_named_files_are_there(self):
        found = 0
        for document in DOCUMENTS:
            for place in PLACE.findall(document.read_text()):
                there = [(base / place).exists() for base in (ROOT, document.parent)]
                self.assertTrue(any(there), f"{document.relative_to(ROOT)} names {place}")
                found += 1
        self.assertGreater(found, 30)

    def test_commands_have_the_flags_that_they_are_shown_with(self):
        helps, found = {}, 0
        for document in DOCUMENTS:
            for command, rest in COMMAND.findall(document.read_text()):
                if command not in helps:
                    helps[command] = set(FLAG.findall(self.aerie(command, "--help").stdout)) | {"--help"}
                rest = rest.split(" # ")[0]
                self.missing(document, FLAG.findall(rest), helps[command], f"flag of aerie {command}")
                found += len(FLAG.findall(rest))
        self.assertGreater(found, 40)

    def test_keys_of_a_run_file(self):
        section, known = "", set()
        for line in self.aerie("train", "--help-config").stdout.splitlines():
            if match := re.match(r"(\w+):", line):
                section = match[1]
            elif match := re.match(r"  (\w+)\b", line):
                known.add(f"{section}.{match[1]}")
        found = 0
        for document in DOCUMENTS:
            keys = KEY.findall(document.read_text())
            self.missing(document, keys, known, "key")
            found += len(keys)
        self.assertGreater(found, 30)


if __name__ == "__main__":
    assert PROGRAM.exists(), f"{PROGRAM} is not built: scripts/build.sh ({ROOT})"
    unittest.main(verbosity=1)
